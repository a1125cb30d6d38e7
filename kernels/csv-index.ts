// Where the fields of CSV text stand. Grammar: RFC 4180, section 2, with lines that end in LF or CRLF, blank lines skipped,
// and any bytes but quotes in fields that are not quoted.

const COMMA: i32 = 0x2c
const QUOTE: i32 = 0x22
const LF: i32 = 0x0a
const CR: i32 = 0x0d

/** What is wrong with a record. */
const FIELD_COUNT: i32 = -1
const BARE_QUOTE: i32 = -2
const OPEN_QUOTE: i32 = -3

/** A field: u32 offset in the text, u32 byte length; the top bit of the length says that it holds doubled quotes. */
const FIELD_SHIFT: u32 = 3
const IS_ESCAPED: u32 = 0x8000_0000

/** One bit for each of 16 bytes: a comma, a quote or a line feed. */
function marksOf(bytes: v128): u32 {
  const commas = i8x16.eq(bytes, i8x16.splat(<i8>COMMA))
  const quotes = i8x16.eq(bytes, i8x16.splat(<i8>QUOTE))
  const ends = i8x16.eq(bytes, i8x16.splat(<i8>LF))
  return <u32>i8x16.bitmask(v128.or(v128.or(commas, quotes), ends))
}

/** The same for the last byteLength (below 16) bytes of a text: nothing behind it is read. */
function lastMarks(ptr: usize, byteLength: u32): u32 {
  let marks: u32 = 0
  for (let i: u32 = 0; i < byteLength; i++) {
    const byte = <i32>load<u8>(ptr + i)
    marks |= (<u32>(byte === COMMA || byte === QUOTE || byte === LF)) << i
  }
  return marks
}

/**
 * Finds the fields of the whole records at the start of a text. Returns the number of records, or what is wrong:
 * -1 a record has another number of fields, -2 a quote inside an unquoted field, -3 a quoted field that does not end or
 * goes on behind its closing quote.
 *
 * text            byteLength bytes, below 2^31; `isLast`: nothing follows them, so the last record needs no line end
 * columnCount     fields of each record; 0: one record with whatever number of fields
 * recordCountMax  records that are wanted at most
 * fields          fieldCapacity × { u32 offset in the text, u32 byte length }, record after record; quotes around a field
 *                 are left out, and the top bit of the length says that there are doubled quotes in it. A record that does
 *                 not fit is left for the next call.
 * status          4 × u32: bytes of the text that are done with, line feeds in them, line feeds before the wrong record (or
 *                 quote), fields of the last record
 */
export function csvIndex(
  textPtr: usize,
  byteLength: u32,
  isLast: i32,
  columnCount: u32,
  recordCountMax: u32,
  fieldsPtr: usize,
  fieldCapacity: u32,
  statusPtr: usize,
): i32 {
  const recordMax: u32 = columnCount === 0 ? 1 : min(recordCountMax, fieldCapacity / columnCount)
  const columnMax: u32 = columnCount === 0 ? fieldCapacity : columnCount
  let lineCount: u32 = 0
  let recordLine: u32 = 0
  let recordStart: u32 = 0
  let fieldStart: u32 = 0
  let fieldFlags: u32 = 0
  let column: u32 = 0
  let recordCount: u32 = 0
  let fieldPtr = fieldsPtr
  let isQuoted = false
  // Behind the last byte of a quoted field that has ended; 0 for none.
  let closedEnd: u32 = 0
  let skipped: u32 = u32.MAX_VALUE
  let fault = 0
  let isCut = false

  for (let block: u32 = 0; block < byteLength && recordCount < recordMax && fault === 0 && !isCut; block += 16) {
    const rest = byteLength - block
    let marks = rest >= 16 ? marksOf(v128.load(textPtr + block)) : lastMarks(textPtr + block, rest)
    while (marks) {
      const at = block + <u32>ctz(marks)
      marks &= marks - 1
      const byte = <i32>load<u8>(textPtr + at)
      if (isQuoted) {
        if (byte === LF) lineCount++
        if (byte !== QUOTE || at === skipped) continue
        const next = at + 1
        if (next === byteLength && !isLast) {
          isCut = true
          break
        }
        const after = next < byteLength ? <i32>load<u8>(textPtr + next) : LF
        if (after === QUOTE) {
          skipped = next
          fieldFlags = IS_ESCAPED
          continue
        }
        if (after === CR) {
          if (next + 1 === byteLength && !isLast) {
            isCut = true
            break
          }
          if (next + 1 < byteLength && <i32>load<u8>(textPtr + next + 1) !== LF) fault = OPEN_QUOTE
        } else if (after !== COMMA && after !== LF) fault = OPEN_QUOTE
        if (fault !== 0) {
          recordLine = lineCount
          break
        }
        isQuoted = false
        closedEnd = next
        continue
      }
      if (byte === QUOTE) {
        if (at !== fieldStart) {
          fault = BARE_QUOTE
          recordLine = lineCount
          break
        }
        isQuoted = true
        continue
      }
      let start = fieldStart
      let end = at
      if (closedEnd !== 0) {
        start++
        end = closedEnd - 1
      } else if (byte === LF && at > fieldStart && <i32>load<u8>(textPtr + at - 1) === CR) end--
      if (byte === LF && column === 0 && closedEnd === 0 && end === fieldStart) {
        fieldStart = recordStart = at + 1
        recordLine = ++lineCount
        continue
      }
      if (column < columnMax) {
        store<u32>(fieldPtr, start)
        store<u32>(fieldPtr, (end - start) | fieldFlags, 4)
        fieldPtr += 8
      }
      column++
      fieldStart = at + 1
      closedEnd = 0
      fieldFlags = 0
      if (byte === COMMA) continue
      if (column > columnMax || (columnCount !== 0 && column !== columnCount)) {
        fault = FIELD_COUNT
        break
      }
      store<u32>(statusPtr, column, 12)
      column = 0
      recordStart = at + 1
      recordLine = ++lineCount
      if (++recordCount === recordMax) break
    }
  }

  if (fault === 0 && isLast && recordCount < recordMax && recordStart < byteLength) {
    // The last record, without a line end.
    if (isQuoted) {
      fault = OPEN_QUOTE
    } else {
      let start = fieldStart
      let end = byteLength
      if (closedEnd !== 0) {
        start++
        end = closedEnd - 1
      } else if (end > fieldStart && <i32>load<u8>(textPtr + end - 1) === CR) end--
      if (column > 0 || closedEnd !== 0 || end > fieldStart) {
        if (column < columnMax) {
          store<u32>(fieldPtr, start)
          store<u32>(fieldPtr, (end - start) | fieldFlags, 4)
        }
        column++
        if (column > columnMax || (columnCount !== 0 && column !== columnCount)) fault = FIELD_COUNT
        else {
          store<u32>(statusPtr, column, 12)
          recordCount++
        }
      }
      if (fault === 0) {
        recordStart = byteLength
        recordLine = lineCount
      }
    }
  }
  store<u32>(statusPtr, recordStart)
  store<u32>(statusPtr, recordLine, 4)
  store<u32>(statusPtr, recordLine, 8)
  if (fault !== 0) {
    store<u32>(statusPtr, column, 12)
    return fault
  }
  return <i32>recordCount
}

/** Bytes of a column's texts at most, over records of columnCount fields; `fields` is its field of the first record. */
export function csvTextByteLength(fieldsPtr: usize, columnCount: u32, recordCount: u32): u32 {
  const stride = (<usize>columnCount) << FIELD_SHIFT
  let total: u32 = 0
  for (let record: u32 = 0, ptr = fieldsPtr; record < recordCount; record++, ptr += stride) {
    total += load<u32>(ptr, 4) & ~IS_ESCAPED
  }
  return total
}

/**
 * Copies a column's texts, doubled quotes made single. Returns their byte length.
 *
 * fields   its field of the first record, as csvIndex wrote it
 * offsets  (recordCount + 1) × u32, the first 0
 * target   csvTextByteLength(…) bytes
 */
export function csvTexts(
  textPtr: usize,
  fieldsPtr: usize,
  columnCount: u32,
  recordCount: u32,
  offsetsPtr: usize,
  targetPtr: usize,
): u32 {
  const stride = (<usize>columnCount) << FIELD_SHIFT
  let written: u32 = 0
  store<u32>(offsetsPtr, 0)
  for (let record: u32 = 0, ptr = fieldsPtr; record < recordCount; record++, ptr += stride) {
    const source = textPtr + load<u32>(ptr)
    const length = load<u32>(ptr, 4)
    const byteLength = length & ~IS_ESCAPED
    if (length === byteLength) {
      memory.copy(targetPtr + written, source, byteLength)
      written += byteLength
    } else {
      for (let i: u32 = 0; i < byteLength; i++) {
        const byte = load<u8>(source + i)
        store<u8>(targetPtr + written++, byte)
        // csvIndex has seen that the next one is a quote too.
        if (<i32>byte === QUOTE) i++
      }
    }
    store<u32>(offsetsPtr + ((<usize>(record + 1)) << 2), written)
  }
  return written
}
