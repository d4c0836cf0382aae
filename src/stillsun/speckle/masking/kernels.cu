// Kernels of the open speckle reconstruction on a GPU: the loops that the array library has no function for.
// Formulas and order of operations are those of the Numba kernels next door: geometry.cut,
// bispectrum.mean_bispectrum, knox_thompson.mean_cross_spectra, phases.solve.
// Grid y (or x) counts subfields; threads of a block are whole warps.

// Ratios beyond this come only from bursts without noise or seeing, where any weight will do.
#define HIGHEST_SNR 1.0e3
#define WARP 32
#define ALL 0xffffffffu

// Dynamic shared memory of whatever kernel runs.
extern __shared__ float2 shared_memory[];

static __device__ inline int reflect(int index, int length)
{
    if (index >= 0 && index < length)
        return index;
    const int period = 2 * length;
    index %= period;
    if (index < 0)
        index += period;
    return index < length ? index : period - 1 - index;
}

static __device__ inline float2 product(float2 a, float2 b)
{
    return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

// Value at a numbered frequency; numbers from count on stand for minus a frequency.
static __device__ inline float2 member(const float2* values, int number, int count)
{
    if (number < count)
        return values[number];
    const float2 value = values[number - count];
    return make_float2(value.x, -value.y);
}

static __device__ inline float warp_sum(float value)
{
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL, value, distance);
    return value;
}

// Subfields less a surface and their mean, times the window, binned.
// Grid (frames, subfields), block (x, y).
extern "C" __global__ void cut(
    const float* burst,      // (frames, rows, columns)
    const float* scale,      // (frames): factor of each frame
    const float* surface,    // (rows, columns): subtracted if `subtract`; stays when the window moves
    const int* first,        // (subfields, 2): first row and column, perhaps outside the frame
    const int* shifts,       // (frames, 2) if `common`, else (subfields, frames, 2): content moves by +shift
    const float* window,     // (size): used along both axes
    float* out,              // (subfields, frames, size / binning, size / binning)
    double* means,           // (subfields, frames): mean under the window, that was subtracted
    double norm,             // sum of the two-dimensional window
    int rows, int columns, int size, int binning, int subtract, int common)
{
    const int k = blockIdx.x, frames = gridDim.x, s = blockIdx.y;
    const int number = threadIdx.y * blockDim.x + threadIdx.x;
    const int threads = blockDim.x * blockDim.y;
    const int* shift = shifts + 2 * ((common ? 0 : (size_t)s * frames) + k);
    const int row = first[2 * s], column = first[2 * s + 1];
    const int top = row - shift[0], left = column - shift[1];
    const float* source = burst + (size_t)k * rows * columns;
    const float factor = scale[k];

    double part = 0.0;
    for (int y = threadIdx.y; y < size; y += blockDim.y) {
        const float* line = source + (size_t)reflect(top + y, rows) * columns;
        const float* smooth = surface + (size_t)reflect(row + y, rows) * columns;
        for (int x = threadIdx.x; x < size; x += blockDim.x) {
            float value = line[reflect(left + x, columns)] * factor;
            if (subtract)
                value -= smooth[reflect(column + x, columns)];
            part += (double)(window[y] * window[x] * value);
        }
    }
    double* sums = (double*)shared_memory;
    sums[number] = part;
    __syncthreads();
    for (int distance = threads / 2; distance > 0; distance /= 2) {
        if (number < distance)
            sums[number] += sums[number + distance];
        __syncthreads();
    }
    const double mean = sums[0] / norm;
    const float offset = (float)mean;
    if (number == 0)
        means[(size_t)s * frames + k] = mean;

    const int side = size / binning;
    float* target = out + ((size_t)s * frames + k) * side * side;
    for (int y = threadIdx.y; y < side; y += blockDim.y) {
        for (int x = threadIdx.x; x < side; x += blockDim.x) {
            float total = 0.0f;
            for (int v = y * binning; v < (y + 1) * binning; ++v) {
                const float* line = source + (size_t)reflect(top + v, rows) * columns;
                const float* smooth = surface + (size_t)reflect(row + v, rows) * columns;
                for (int u = x * binning; u < (x + 1) * binning; ++u) {
                    float value = line[reflect(left + u, columns)] * factor;
                    if (subtract)
                        value -= smooth[reflect(column + u, columns)];
                    total += (value - offset) * (window[u] * window[v]);
                }
            }
            target[y * side + x] = total;
        }
    }
}

// Sums over the frames of the elements of a bispectrum (or of cross-spectra): real and imaginary part, power.
// A warp sums as many elements as it has threads, all threads one after another; each keeps its own.
template <bool triple>
static __device__ float3 element_sums(
    const float2* __restrict__ spectra, const int* __restrict__ u, const int* __restrict__ v,
    const int* __restrict__ w, int count, int frames, int elements, int begin)
{
    const int lane = threadIdx.x % WARP;
    float3 own = make_float3(0.0f, 0.0f, 0.0f);
    for (int i = 0; i < WARP; ++i) {
        const int t = min(begin + i, elements - 1);
        const float sign_u = u[t] < count ? 1.0f : -1.0f;
        const float sign_w = w[t] < count ? 1.0f : -1.0f;
        const float2* at_u = spectra + (size_t)(u[t] % count) * frames;
        const float2* at_v = triple ? spectra + (size_t)v[t] * frames : at_u;
        const float2* at_w = spectra + (size_t)(w[t] % count) * frames;
        float3 sum = make_float3(0.0f, 0.0f, 0.0f);
        for (int k = lane; k < frames; k += WARP) {
            float2 element = at_u[k], c = at_w[k];
            element.y *= sign_u;
            c.y *= -sign_w;
            if (triple)
                element = product(element, at_v[k]);
            element = product(element, c);
            sum.x += element.x;
            sum.y += element.y;
            sum.z += element.x * element.x + element.y * element.y;
        }
        sum = make_float3(warp_sum(sum.x), warp_sum(sum.y), warp_sum(sum.z));
        if (lane == i)
            own = sum;
    }
    return own;
}

// Unit phasor of a mean and its ratio to its standard error.
static __device__ void store_element(
    double re, double im, double scatter, int frames, float2* phasor, float* snr)
{
    const double mean = sqrt(re * re + im * im);
    if (mean > 0.0) {
        *phasor = make_float2((float)(re / mean), (float)(im / mean));
        // Single precision may make the variance of a constant burst negative.
        scatter = fmax(scatter, mean * mean * frames / (HIGHEST_SNR * HIGHEST_SNR));
        *snr = (float)(mean / sqrt(scatter / (frames - 1)));
    } else {
        *phasor = make_float2(0.0f, 0.0f);
        *snr = 0.0f;
    }
}

// Mean bispectrum <I(u) I(v) I*(u+v)>. Grid (groups of elements, subfields), a thread an element.
extern "C" __global__ void mean_bispectrum(
    const float2* __restrict__ spectra,  // (subfields, count, frames)
    const int* __restrict__ u, const int* __restrict__ v, const int* __restrict__ w,  // (triples): numbers
    float2* phasor,          // (subfields, triples): B / |B|
    float* snr,              // (subfields, triples): |<B>| over its standard error
    int count, int frames, int triples)
{
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    const float3 sum = element_sums<true>(
        spectra + (size_t)blockIdx.y * count * frames, u, v, w, count, frames, triples, t - threadIdx.x % WARP);
    if (t >= triples)
        return;
    const size_t place = (size_t)blockIdx.y * triples + t;
    const double re = (double)sum.x / frames, im = (double)sum.y / frames;
    store_element(re, im, (double)sum.z / frames - (re * re + im * im), frames, phasor + place, snr + place);
}

// Mean cross-spectra <I(u) I*(u+d)> less the noise's part. Grid and block as for mean_bispectrum.
extern "C" __global__ void mean_cross_spectra(
    const float2* __restrict__ spectra,  // (subfields, count, frames)
    const int* __restrict__ u, const int* __restrict__ w,  // (pairs): numbered frequencies
    const float2* leak,      // (pairs): share of the noise in each
    const double* noise,     // (subfields): power of the noise per frequency
    float2* phasor, float* snr,  // (subfields, pairs)
    int count, int frames, int pairs)
{
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    const float3 sum = element_sums<false>(
        spectra + (size_t)blockIdx.y * count * frames, u, u, w, count, frames, pairs, t - threadIdx.x % WARP);
    if (t >= pairs)
        return;
    const size_t place = (size_t)blockIdx.y * pairs + t;
    const double re = (double)sum.x / frames, im = (double)sum.y / frames;
    const double scatter = (double)sum.z / frames - (re * re + im * im);
    const double level = noise[blockIdx.y];
    store_element(re - level * leak[t].x, im - level * leak[t].y, scatter, frames, phasor + place, snr + place);
}

// Phases from weighted phasors: recursive start, then sweeps in order of frequency, always with the newest
// values (Gauss-Seidel). Grid (subfields), block of whole warps: its threads share a frequency's equations.
// Shared memory: 2 float2 a warp, and the phases if `cached`.
extern "C" __global__ void solve_phases(
    const float2* weights,   // (subfields, equations): weight times unit phasor
    const int* start,        // (count + 1): first equation of each frequency
    const int* known,        // (count): end of those whose members come before it
    const int2* members,     // (equations): numbered frequencies a, b
    float2* phases,          // (subfields, count): unit phasors, improved in place
    float* change,           // (subfields): rms change in the last sweep, radians
    int count, int equations, int fixed, int sweeps, float tolerance, int cached)
{
    const int warps = blockDim.x / WARP;
    float2* own = phases + (size_t)blockIdx.x * count;
    const float2* weight = weights + (size_t)blockIdx.x * equations;
    float2* p = cached ? shared_memory + 2 * warps : own;
    if (cached)
        for (int t = threadIdx.x; t < count; t += blockDim.x)
            p[t] = own[t];
    __syncthreads();

    double rms = 0.0;
    int parity = 0;
    for (int sweep = 0; sweep <= sweeps; ++sweep) {
        double total = 0.0;
        const int lowest = sweep == 0 ? fixed : 0;
        int begin = start[lowest];
        int e = min(begin + (int)threadIdx.x, equations - 1);
        float2 next_weight = weight[e];
        int2 next_pair = members[e];
        for (int t = lowest; t < count; ++t) {
            const int end = sweep == 0 ? known[t] : start[t + 1];
            float2 factor = next_weight;
            int2 pair = next_pair;
            const int following = start[t + 1];
            // Fetched while this frequency's equations are summed.
            e = min(following + (int)threadIdx.x, equations - 1);
            next_weight = weight[e];
            next_pair = members[e];
            float2 sum = make_float2(0.0f, 0.0f);
            for (e = begin + threadIdx.x; e < end;) {
                const float2 term = product(product(member(p, pair.x, count), member(p, pair.y, count)), factor);
                sum.x += term.x;
                sum.y += term.y;
                e += blockDim.x;
                if (e < end) {
                    factor = weight[e];
                    pair = members[e];
                }
            }
            begin = following;
            sum.x = warp_sum(sum.x);
            sum.y = warp_sum(sum.y);
            // Before the barrier: behind it a quicker warp may have replaced it.
            const float2 old = p[t];
            float2* parts = shared_memory + parity * warps;
            parity ^= 1;
            if (threadIdx.x % WARP == 0)
                parts[threadIdx.x / WARP] = sum;
            __syncthreads();
            // All threads do the rest alike, so that one barrier a frequency is enough: the parts of the
            // next one lie elsewhere, and every warp reads the phase that it has written itself.
            sum = parts[0];
            for (int i = 1; i < warps; ++i) {
                sum.x += parts[i].x;
                sum.y += parts[i].y;
            }
            const float size = sqrtf(sum.x * sum.x + sum.y * sum.y);
            if (size > 0.0f) {
                const float2 value = make_float2(sum.x / size, sum.y / size);
                if (sweep > 0) {
                    const float angle = acosf(fminf(fmaxf(value.x * old.x + value.y * old.y, -1.0f), 1.0f));
                    total += (double)(angle * angle);
                }
                p[t] = value;
            }
            __syncwarp();
        }
        __syncthreads();
        if (sweep > 0) {
            rms = sqrt(total / max(count, 1));
            if (rms < tolerance)
                break;
        }
    }
    if (threadIdx.x == 0)
        change[blockIdx.x] = (float)rms;
    if (cached)
        for (int t = threadIdx.x; t < count; t += blockDim.x)
            own[t] = p[t];
}
