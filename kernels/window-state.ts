// Buckets of a window state (see window.ts): what more than one file of kernels does with them. Not exported to callers.

/** What accumulating is to keep: the bits of `which`. The count always is. */
export const WHICH_COUNT = 1
export const WHICH_SUM = 2
export const WHICH_EXTREMES = 4
export const WHICH_LAST = 8
export const WHICH_VARIANCE = 16

/** Which array of a state holds the last values. */
export const LAST_ARRAY: usize = 4

/**
 * Adds count values with this mean and m2 to those of a bucket (T. F. Chan, G. H. Golub, R. J. LeVeque, Updating Formulae
 * and a Pairwise Algorithm for Computing Sample Variances, 1979). Must be called before the bucket's count is raised.
 * An infinite value makes the mean infinite or NaN and m2 Infinity; a NaN makes both NaN.
 */
export function addMoments(ptr: usize, stride: usize, count: f64, mean: f64, m2: f64): void {
  const countBefore = load<f64>(ptr)
  const meanPtr = ptr + stride * 5
  const m2Ptr = ptr + stride * 6
  if (countBefore === 0) {
    store<f64>(meanPtr, mean)
    store<f64>(m2Ptr, m2)
    return
  }
  const meanBefore = load<f64>(meanPtr)
  const distance = mean - meanBefore
  const share = count / (countBefore + count)
  if (abs(distance) < Infinity) {
    store<f64>(meanPtr, meanBefore + distance * share)
    store<f64>(m2Ptr, load<f64>(m2Ptr) + m2 + distance * distance * (countBefore * share))
  } else {
    store<f64>(meanPtr, meanBefore + mean)
    store<f64>(m2Ptr, load<f64>(m2Ptr) + m2)
  }
}

/** Lowers the bucket's min and raises its max; NaN stays NaN. */
export function addExtremes(ptr: usize, stride: usize, least: f64, greatest: f64): void {
  store<f64>(ptr + stride * 2, min(load<f64>(ptr + stride * 2), least))
  store<f64>(ptr + stride * 3, max(load<f64>(ptr + stride * 3), greatest))
}

/**
 * Adds digest `at / 8` of a block, which has `count` values and more than none, to a bucket of a state whose columns are `stride`
 * bytes apart. sums, mins, maxs, lasts, m2s: f64 a digest; m2s need sums; what is not among `which` may be anything.
 */
export function addDigest(
  ptr: usize,
  stride: usize,
  count: f64,
  sumsPtr: usize,
  minsPtr: usize,
  maxsPtr: usize,
  lastsPtr: usize,
  m2sPtr: usize,
  at: usize,
  which: i32,
): void {
  if (which & WHICH_VARIANCE) {
    addMoments(ptr, stride, count, load<f64>(sumsPtr + at) / count, load<f64>(m2sPtr + at))
  }
  if (which & WHICH_EXTREMES) addExtremes(ptr, stride, load<f64>(minsPtr + at), load<f64>(maxsPtr + at))
  if (which & (WHICH_SUM | WHICH_VARIANCE)) {
    store<f64>(ptr + stride, load<f64>(ptr + stride) + load<f64>(sumsPtr + at))
  }
  if (which & WHICH_LAST) store<f64>(ptr + stride * LAST_ARRAY, load<f64>(lastsPtr + at))
  store<f64>(ptr, load<f64>(ptr) + count)
}
