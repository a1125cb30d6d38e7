// The numbers of the page codecs (the first byte of every page) and the bounds of a page. docs/formats.md is the table.

export const CODEC_RAW: i32 = 0
export const CODEC_CONSTANT: i32 = 1
export const CODEC_PROGRESSION: i32 = 2
export const CODEC_PACKED: i32 = 3
export const CODEC_SCALED: i32 = 4
export const CODEC_DECIMALS: i32 = 5
export const CODEC_BITS: i32 = 6
export const CODEC_RUNS: i32 = 7
export const CODEC_STRINGS: i32 = 8
export const CODEC_DICTIONARY: i32 = 9
export const CODEC_NARROW: i32 = 10

/** Values of a page at most: every scratch layout and 16-bit place in a page rests on it. */
export const PAGE_COUNT_MAX: i32 = 4096

/** Packed codes of one block: large enough that its header is small change, small enough to follow the data. */
export const BLOCK_COUNT: i32 = 256
/** Codes of one vertical group, the unit of the SIMD loops. */
export const GROUP_COUNT: i32 = 128
/** Bit of a block's first byte: the block has escapes. */
export const ESCAPES: i32 = 128
