// The label by which a limited read says where it goes on.

/** Adds the label `next_marker` to an encoded frame: fields of a message may be appended. */
export function appendMarker(frame: Uint8Array, marker: string): Uint8Array {
  const value = field(3, Buffer.from(marker))
  const entry = Buffer.concat([field(1, Buffer.from('next_marker')), field(2, value)])
  return Buffer.concat([frame, field(3, entry)])
}

/** A length-delimited field of a protobuf message. */
function field(number: number, bytes: Uint8Array): Buffer {
  const header: number[] = [(number << 3) | 2]
  let length = bytes.length
  for (; length >= 128; length >>>= 7) header.push((length & 127) | 128)
  header.push(length)
  return Buffer.concat([Buffer.from(header), bytes])
}
