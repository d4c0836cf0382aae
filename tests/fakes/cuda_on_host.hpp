// Runs CUDA C++ on the host: every thread of a block is a fiber, blocks follow one another.
// Fibers run alone from barrier to barrier, in an order that the caller chooses: code that misses a
// barrier gives another result in another order, and one that not all threads reach is reported.
#pragma once
#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __restrict__

struct dim3_host { int x, y, z; };
struct float2 { float x, y; };
struct float3 { float x, y, z; };
struct int2 { int x, y; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
using std::max;
using std::min;

static dim3_host threadIdx, blockIdx, blockDim, gridDim;

namespace host {
constexpr int WARP_SIZE = 32;
constexpr std::size_t STACK = 64 * 1024;
enum State { READY, AT_WARP, AT_BLOCK, DONE };

struct Fiber {
    ucontext_t first;
    jmp_buf at;
    bool started = false;
    State state = READY;
    int exchanges = 0;
    std::vector<char> stack = std::vector<char>(STACK);
};

static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static int current;
static void (*body)(void*);
static void* argument;
// Two sets of slots: a fiber may begin the next exchange while others still read this one's.
static float slots[2][1024];

static void leave(State state)
{
    fibers[current].state = state;
    if (_setjmp(fibers[current].at) == 0)
        _longjmp(scheduler, 1);
}

static void enter()
{
    body(argument);
    fibers[current].state = DONE;
    _longjmp(scheduler, 1);
}

static void resume(int number)
{
    current = number;
    threadIdx = {number % blockDim.x, number / blockDim.x, 0};
    Fiber& fiber = fibers[number];
    if (_setjmp(scheduler) != 0)
        return;
    if (fiber.started)
        _longjmp(fiber.at, 1);
    fiber.started = true;
    getcontext(&fiber.first);
    fiber.first.uc_stack.ss_sp = fiber.stack.data();
    fiber.first.uc_stack.ss_size = fiber.stack.size();
    fiber.first.uc_link = nullptr;
    makecontext(&fiber.first, enter, 0);
    setcontext(&fiber.first);
}

// 0, or 1 if some threads wait where the others never come.
static int run_block(int order)
{
    const int threads = blockDim.x * blockDim.y * blockDim.z;
    if ((int)fibers.size() < threads)
        fibers = std::vector<Fiber>(threads);
    std::vector<int> turn(threads);
    for (int i = 0; i < threads; ++i) {
        fibers[i].started = false;
        fibers[i].state = READY;
        fibers[i].exchanges = 0;
        turn[i] = order == 1 ? threads - 1 - i : i;
    }
    std::mt19937 random(order);
    for (;;) {
        if (order > 1)
            std::shuffle(turn.begin(), turn.end(), random);
        for (int number : turn)
            if (fibers[number].state == READY)
                resume(number);
        bool released = false;
        int done = 0, at_block = 0;
        for (int warp = 0; warp < threads; warp += WARP_SIZE) {
            int waiting = 0;
            const int end = std::min(warp + WARP_SIZE, threads);
            for (int i = warp; i < end; ++i) {
                waiting += fibers[i].state == AT_WARP;
                at_block += fibers[i].state == AT_BLOCK;
                done += fibers[i].state == DONE;
            }
            if (waiting == end - warp) {
                for (int i = warp; i < end; ++i)
                    fibers[i].state = READY;
                released = true;
            }
        }
        if (done == threads)
            return 0;
        if (at_block == threads) {
            for (int i = 0; i < threads; ++i)
                fibers[i].state = READY;
            released = true;
        }
        if (!released)
            return 1;
    }
}

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>)
{
    kernel(*reinterpret_cast<A*>(arguments[I])...);
}

template <class... A>
int launch(void (*kernel)(A...), const int* grid, const int* block, int order, void** arguments)
{
    struct Packed { void (*kernel)(A...); void** arguments; } packed{kernel, arguments};
    body = [](void* data) {
        Packed* p = static_cast<Packed*>(data);
        call(p->kernel, p->arguments, std::index_sequence_for<A...>{});
    };
    argument = &packed;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (int z = 0; z < grid[2]; ++z)
        for (int y = 0; y < grid[1]; ++y)
            for (int x = 0; x < grid[0]; ++x) {
                blockIdx = {x, y, z};
                if (run_block(order))
                    return 1;
            }
    return 0;
}
}  // namespace host

static inline void __syncthreads() { host::leave(host::AT_BLOCK); }
static inline void __syncwarp() { host::leave(host::AT_WARP); }

static inline float __shfl_xor_sync(unsigned, float value, int distance)
{
    const int own = host::current;
    const int parity = host::fibers[own].exchanges++ % 2;
    host::slots[parity][own] = value;
    host::leave(host::AT_WARP);
    return host::slots[parity][own ^ distance];
}

#define KERNEL(name)                                                                            \
    extern "C" int run_##name(const int* grid, const int* block, int order, void** arguments)   \
    {                                                                                           \
        return host::launch(name, grid, block, order, arguments);                               \
    }
