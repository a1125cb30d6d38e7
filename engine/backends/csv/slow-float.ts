// Floats whose text the kernel leaves to others: more than 19 digits, far exponents, hexadecimal.

const hexPattern = /^([+-]?)0x([0-9a-f]*)\.?([0-9a-f]*)p([+-]?[0-9]+)$/i

/** The double nearest to a text that the kernel has found to be a float. */
export function parseSlowFloat(text: string): number {
  const hex = hexPattern.exec(text)
  if (hex === null) return Number(text)
  const [, sign, whole, fraction, exponentText] = hex
  const magnitude = scaledByPowerOfTwo(BigInt(`0x0${whole}${fraction}`), Number(exponentText) - 4 * fraction!.length)
  return sign === '-' ? -magnitude : magnitude
}

/** mantissa × 2^exponent, rounded once, to nearest even. */
function scaledByPowerOfTwo(mantissa: bigint, exponent: number): number {
  if (mantissa === 0n) return 0
  const bitCount = mantissa.toString(2).length
  // A double ends at 53 bits, or at 2^-1074.
  const dropped = Math.max(0, bitCount - 53, -1074 - exponent)
  if (dropped > bitCount + 1) return 0
  const shift = BigInt(dropped)
  const kept = mantissa >> shift
  const rest = mantissa - (kept << shift)
  const twice = 2n * rest
  const unit = 1n << shift
  const rounded = twice > unit || (twice === unit && (kept & 1n) === 1n) ? kept + 1n : kept
  // In two steps: the power alone may be too small or too large for a double.
  const power = exponent + dropped
  const first = Math.max(-1000, Math.min(900, power))
  return Number(rounded) * 2 ** first * 2 ** (power - first)
}
