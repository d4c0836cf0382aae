// Kernels of the destretch on a GPU. Formulas are those of the Numba kernels: _taps.row_kernel,
// warp._add_control_points, _gradient._sums and _solve, _repair._differences, _repair._fill_missing,
// tiles._gather, correlate._peaks.
// One thread computes one value of the result; threads along x take neighbouring columns.

#define SUMS 6
// Of a block that works on one tile.
#define THREADS 256

// Dynamic shared memory of whatever kernel runs.
extern __shared__ float2 shared_memory[];

static __device__ inline int clamped(int index, int length)
{
    return min(max(index, 0), length - 1);
}

// Weighted sum of taps x taps samples around a place; weights between two entries of the table.
template <int taps>
static __device__ inline float window_sum(
    const float* __restrict__ image, const float* __restrict__ table, int rows, int columns, int phases,
    int y, int x, float down, float across)
{
    const float whole_y = floorf(-down), whole_x = floorf(-across);
    const float top = phases - 0.001f;
    const float at_y = fminf((-down - whole_y) * phases, top);
    const float at_x = fminf((-across - whole_x) * phases, top);
    const float* along_y = table + (int)at_y * taps;
    const float* along_x = table + (int)at_x * taps;
    const float part_y = at_y - (int)at_y, part_x = at_x - (int)at_x;
    // Bounded before they become whole numbers, so that what is added to them cannot run over.
    const int first_y = (int)fminf(fmaxf(whole_y, -1e9f), 1e9f) + y - (taps / 2 - 1);
    const int first_x = (int)fminf(fmaxf(whole_x, -1e9f), 1e9f) + x - (taps / 2 - 1);
    float sums[taps];
#pragma unroll
    for (int i = 0; i < taps; ++i)
        sums[i] = 0.0f;
#pragma unroll
    for (int j = 0; j < taps; ++j) {
        const float weight = along_y[j] + part_y * (along_y[j + taps] - along_y[j]);
        const float* line = image + (size_t)clamped(first_y + j, rows) * columns;
#pragma unroll
        for (int i = 0; i < taps; ++i)
            sums[i] += weight * line[clamped(first_x + i, columns)];
    }
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < taps; ++i)
        total += sums[i] * (along_x[i] + part_x * (along_x[i + taps] - along_x[i]));
    return total;
}

// Move the content of an image. Grid and block over (columns, rows).
extern "C" __global__ void resample(
    const float* image,         // (rows, columns)
    const float* displacement,  // (2, rows, columns)
    const float* table,         // (phases + 1, taps): weights
    float* out,                 // (rows, columns)
    int rows, int columns, int taps, int phases)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= columns || y >= rows)
        return;
    const size_t place = (size_t)y * columns + x;
    const float down = displacement[place], across = displacement[(size_t)rows * columns + place];
    if (taps == 8)
        out[place] = window_sum<8>(image, table, rows, columns, phases, y, x, down, across);
    else if (taps == 4)
        out[place] = window_sum<4>(image, table, rows, columns, phases, y, x, down, across);
    else
        out[place] = window_sum<2>(image, table, rows, columns, phases, y, x, down, across);
}

// Add control points to a field. Grid and block over (columns, rows); first and weights as from Axis.at.
extern "C" __global__ void add_control_points(
    const float* grid,          // (2, points_y, points_x)
    const int* first_y,         // (rows)
    const float* weights_y,     // (4, rows)
    const int* first_x,         // (columns)
    const float* weights_x,     // (4, columns)
    float* field,               // (2, rows, columns): added to
    int rows, int columns, int points_y, int points_x)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= columns || y >= rows)
        return;
    for (int axis = 0; axis < 2; ++axis) {
        float total = 0.0f;
        for (int j = 0; j < 4; ++j) {
            const int row = clamped(first_y[y] + j - 1, points_y);
            const float* line = grid + ((size_t)axis * points_y + row) * points_x;
            float along = 0.0f;
            for (int i = 0; i < 4; ++i)
                along += weights_x[i * columns + x] * line[clamped(first_x[x] + i - 1, points_x)];
            total += weights_y[j * rows + y] * along;
        }
        field[((size_t)axis * rows + y) * columns + x] += total;
    }
}

// First half of the windowed sums of tiles, along x. Grid and block over (tiles, rows).
extern "C" __global__ void tile_lines(
    const float* image, const float* reference,  // (rows, columns), NaN where there are no data
    const float* weights,       // (width)
    float* lines,               // (6, rows, tiles)
    int rows, int columns, int tiles, int first, int step, int width)
{
    const int t = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (t >= tiles || y >= rows)
        return;
    const float near = 8.0f / 24.0f, far = 1.0f / 24.0f;
    const int left = first + t * step;
    float sums[SUMS] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    if (y >= 2 && y < rows - 2) {
        const int end = min(left + width, columns - 2);
        for (int x = max(left, 2); x < end; ++x) {
            const float* a = image + (size_t)y * columns + x;
            const float* b = reference + (size_t)y * columns + x;
            const float gy = near * ((a[columns] + b[columns]) - (a[-columns] + b[-columns]))
                - far * ((a[2 * columns] + b[2 * columns]) - (a[-2 * columns] + b[-2 * columns]));
            const float gx = near * ((a[1] + b[1]) - (a[-1] + b[-1]))
                - far * ((a[2] + b[2]) - (a[-2] + b[-2]));
            const float e = b[0] - a[0];
            const float all = gy + gx + e;
            // Neither NaN nor infinite.
            if (!(all - all == 0.0f))
                continue;
            const float weight = weights[x - left];
            sums[0] += weight * (gy * gy);
            sums[1] += weight * (gy * gx);
            sums[2] += weight * (gx * gx);
            sums[3] += weight * (gy * e);
            sums[4] += weight * (gx * e);
            sums[5] += weight;
        }
    }
    for (int k = 0; k < SUMS; ++k)
        lines[((size_t)k * rows + y) * tiles + t] = sums[k];
}

// Second half, along y. Grid and block over (tiles along x, tiles along y), grid z over the sums.
extern "C" __global__ void tile_columns(
    const float* lines,         // (6, rows, tiles_x)
    const float* weights,       // (width)
    double* sums,               // (6, tiles_y, tiles_x)
    int rows, int tiles_y, int tiles_x, int first, int step, int width)
{
    const int t = blockIdx.x * blockDim.x + threadIdx.x, s = blockIdx.y * blockDim.y + threadIdx.y;
    const int k = blockIdx.z;
    if (t >= tiles_x || s >= tiles_y)
        return;
    const int top = first + s * step, end = min(top + width, rows);
    float total = 0.0f;
    for (int y = max(top, 0); y < end; ++y)
        total += weights[y - top] * lines[((size_t)k * rows + y) * tiles_x + t];
    sums[((size_t)k * tiles_y + s) * tiles_x + t] = total;
}

// Shifts of tiles from their sums: two equations a tile. Grid and block over (tiles along x, tiles along y).
extern "C" __global__ void solve_tiles(
    const double* sums,         // (6, tiles_y, tiles_x)
    const double* lean,         // (tiles_y, tiles_x): weight of what a tile leans on, if `leaning`
    const double* towards,      // (2, tiles_y, tiles_x): what that is
    double* shifts,             // (2, tiles_y, tiles_x)
    bool* measured,             // (tiles_y, tiles_x): has data, structure and a small shift
    double ridge, double least_share, double largest,
    int tiles_y, int tiles_x, int bins, int leaning, int everywhere)
{
    const int t = blockIdx.x * blockDim.x + threadIdx.x, s = blockIdx.y * blockDim.y + threadIdx.y;
    if (t >= tiles_x || s >= tiles_y)
        return;
    const size_t layer = (size_t)tiles_y * tiles_x, place = (size_t)s * tiles_x + t;
    const double weight = leaning ? lean[place] : 0.0;
    const double yy = sums[place] + (ridge + weight), yx = sums[layer + place];
    const double xx = sums[2 * layer + place] + (ridge + weight);
    double ey = sums[3 * layer + place], ex = sums[4 * layer + place];
    if (leaning) {
        ey -= weight * towards[place];
        ex -= weight * towards[layer + place];
    }
    const double determinant = yy * xx - yx * yx;
    const double down = (yx * ex - xx * ey) / determinant, across = (yx * ey - yy * ex) / determinant;
    const bool good = sums[5 * layer + place] >= least_share && sums[place] + sums[2 * layer + place] > ridge
        && down * down + across * across < largest * largest;
    measured[place] = good;
    shifts[place] = good || everywhere ? bins * down : 0.0;
    shifts[layer + place] = good || everywhere ? bins * across : 0.0;
}

static __device__ inline float middle(float a, float b, float c)
{
    return fmaxf(fminf(a, b), fminf(fmaxf(a, b), c));
}

// Distance of every shift from the median of the 3 x 3 around it. Grid and block over (columns, rows), grid z
// over the axes.
extern "C" __global__ void median_distance(
    const float* shifts,        // (2, rows, columns)
    float* out,                 // (2, rows, columns)
    int rows, int columns)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= columns || y >= rows)
        return;
    const size_t start = (size_t)blockIdx.z * rows * columns;
    // Least, middle and greatest of three above each other; the median is the middle one of the greatest
    // of the least, the middle of the middle, and the least of the greatest.
    float low[3], mid[3], high[3];
    for (int i = 0; i < 3; ++i) {
        const float* column = shifts + start + clamped(x + i - 1, columns);
        const float a = column[(size_t)max(y - 1, 0) * columns], b = column[(size_t)y * columns],
                    c = column[(size_t)min(y + 1, rows - 1) * columns];
        low[i] = fminf(fminf(a, b), c);
        mid[i] = middle(a, b, c);
        high[i] = fmaxf(fmaxf(a, b), c);
    }
    const float median = middle(
        fmaxf(fmaxf(low[0], low[1]), low[2]), middle(mid[0], mid[1], mid[2]),
        fminf(fminf(high[0], high[1]), high[2]));
    const size_t place = start + (size_t)y * columns + x;
    out[place] = fabsf(shifts[place] - median);
}

// Gaussian mean of the good neighbours where a tile is not good. Grid and block over (columns, rows).
extern "C" __global__ void fill_missing(
    const float* shifts,        // (2, rows, columns), 0 where not good
    const bool* good,           // (rows, columns)
    const float* mean,          // (2): where no neighbour is good
    const float* close, const float* wide,  // (2 close_reach + 1), (2 wide_reach + 1): weights along an axis
    float* filled,              // (2, rows, columns)
    int rows, int columns, int close_reach, int wide_reach, float least)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= columns || y >= rows)
        return;
    const size_t place = (size_t)y * columns + x, axis = (size_t)rows * columns;
    float down = shifts[place], across = shifts[axis + place];
    if (!good[place]) {
        down = mean[0];
        across = mean[1];
        for (int pass = 0; pass < 2; ++pass) {
            const float* line = pass == 0 ? close : wide;
            const int reach = pass == 0 ? close_reach : wide_reach;
            float near = 0.0f, dy = 0.0f, dx = 0.0f;
            for (int v = max(0, y - reach); v <= min(rows - 1, y + reach); ++v)
                for (int u = max(0, x - reach); u <= min(columns - 1, x + reach); ++u) {
                    const size_t at = (size_t)v * columns + u;
                    const float weight = line[v - y + reach] * line[u - x + reach];
                    near += good[at] ? weight : 0.0f;
                    dy += weight * shifts[at];
                    dx += weight * shifts[axis + at];
                }
            if (near > least) {
                down = dy / near;
                across = dx / near;
                break;
            }
        }
    }
    filled[place] = down;
    filled[axis + place] = across;
}

// Windowed tiles without their weighted mean from two images. Grid (tiles), block of THREADS.
extern "C" __global__ void gather_tiles(
    const float* first, const float* second,  // (rows, columns), NaN where there are no data
    const int* starts_y, const int* starts_x,  // (tiles): first row and column, perhaps outside the frame
    const float* weights,       // (size, size)
    float* tiles,               // (2, tiles, size, size)
    float* share,               // (tiles): of the window's weight that has data
    int rows, int columns, int size)
{
    double* sums = (double*)shared_memory;  // (4, THREADS)
    const int t = blockIdx.x, number = threadIdx.x, pixels = size * size;
    const size_t layer = (size_t)gridDim.x * pixels;
    const int top = starts_y[t], left = starts_x[t];
    double whole = 0.0, total = 0.0, mean_a = 0.0, mean_b = 0.0;
    for (int i = number; i < pixels; i += THREADS) {
        const int y = top + i / size, x = left + i % size;
        const float weight = weights[i];
        float a = 0.0f, b = 0.0f;
        whole += weight;
        const bool inside = y >= 0 && y < rows && x >= 0 && x < columns;
        if (inside) {
            a = first[(size_t)y * columns + x];
            b = second[(size_t)y * columns + x];
        }
        if (inside && a == a && b == b) {
            total += weight;
            mean_a += (double)weight * a;
            mean_b += (double)weight * b;
        }
    }
    sums[number] = whole;
    sums[THREADS + number] = total;
    sums[2 * THREADS + number] = mean_a;
    sums[3 * THREADS + number] = mean_b;
    __syncthreads();
    for (int distance = THREADS / 2; distance > 0; distance /= 2) {
        if (number < distance)
            for (int k = 0; k < 4; ++k)
                sums[k * THREADS + number] += sums[k * THREADS + number + distance];
        __syncthreads();
    }
    total = sums[THREADS];
    const float offset_a = total > 0.0 ? (float)(sums[2 * THREADS] / total) : 0.0f;
    const float offset_b = total > 0.0 ? (float)(sums[3 * THREADS] / total) : 0.0f;
    if (number == 0)
        share[t] = (float)(total / sums[0]);
    for (int i = number; i < pixels; i += THREADS) {
        const int y = top + i / size, x = left + i % size;
        float a = 0.0f, b = 0.0f;
        const bool inside = y >= 0 && y < rows && x >= 0 && x < columns;
        if (inside) {
            a = first[(size_t)y * columns + x];
            b = second[(size_t)y * columns + x];
        }
        const bool known = inside && a == a && b == b;
        tiles[(size_t)t * pixels + i] = known ? (a - offset_a) * weights[i] : 0.0f;
        tiles[layer + (size_t)t * pixels + i] = known ? (b - offset_b) * weights[i] : 0.0f;
    }
}

// Peak of each correlation, by a quadratic surface through its 3 x 3. Grid and block over tiles.
extern "C" __global__ void find_peaks(
    const float* surfaces,      // (tiles, size, size)
    const double* fit,          // (6, 9): least squares of the surface's coefficients
    double* shifts,             // (2, tiles)
    bool* good,                 // (tiles)
    int tiles, int size, int reach)
{
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= tiles)
        return;
    const float* surface = surfaces + (size_t)t * size * size;
    float best = 0.0f;
    int by = 0, bx = 0;
    for (int y = -reach; y <= reach; ++y)
        for (int x = -reach; x <= reach; ++x) {
            const float value = surface[(y + size) % size * size + (x + size) % size];
            if (value > best) {
                best = value;
                by = y;
                bx = x;
            }
        }
    double c[6], down = 0.0, across = 0.0;
    // A peak on the limit of the search is the flank of another one; no peak is neither.
    bool found = best > 0.0f && (reach == 1 || (abs(by) < reach && abs(bx) < reach));
    if (found) {
        for (int k = 0; k < 6; ++k) {
            c[k] = 0.0;
            for (int i = 0; i < 9; ++i)
                c[k] += fit[k * 9 + i]
                    * surface[(by + i / 3 - 1 + size) % size * size + (bx + i % 3 - 1 + size) % size];
        }
        const double determinant = 4.0 * c[3] * c[4] - c[5] * c[5];
        found = determinant > 0.0 && c[3] < 0.0;
        if (found) {
            down = (c[5] * c[2] - 2.0 * c[4] * c[1]) / determinant;
            across = (c[5] * c[1] - 2.0 * c[3] * c[2]) / determinant;
            found = fabs(down) < 1.0 && fabs(across) < 1.0;
        }
    }
    shifts[t] = found ? by + down : 0.0;
    shifts[tiles + t] = found ? bx + across : 0.0;
    good[t] = found;
}
