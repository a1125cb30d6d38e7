// Conversion between float64 and int64 in SIMD lanes, which WebAssembly has no instruction for.
//
// The double 1.5 × 2^52 + n, for an integer n within ±2^51, has the bits of 1.5 × 2^52 plus n. So adding MAGIC to a double
// rounds it to an integer and leaves that integer in the bits; and adding an integer to the bits of MAGIC makes a double.

/** 1.5 × 2^52. */
export const MAGIC: f64 = 6755399441055744.0
/** The bits of MAGIC. */
export const MAGIC_BITS: i64 = 0x4338000000000000
/** 2^51: what can be converted lies strictly between it and its negative. */
export const MAGIC_INTEGER_MAX: i64 = 2251799813685248
