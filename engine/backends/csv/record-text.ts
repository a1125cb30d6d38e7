// One record as text, for headers; rows of frames are written by a kernel, by the same rules.

/** A field that a reader would misunderstand without quotes. */
const special = /[,"\r\n]|^[ \t]/

/** A line of fields. A single empty field is `""`, because blank lines are skipped. */
export function recordText(fields: readonly string[]): string {
  const texts = fields.map((field) => (special.test(field) ? `"${field.replaceAll('"', '""')}"` : field))
  return `${texts.length === 1 && texts[0] === '' ? '""' : texts.join(',')}\n`
}
