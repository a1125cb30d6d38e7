// How the columns of item blocks are called. An attribute name never holds '#', so no attribute meets another column.

/** The item's name, in every row; sorted within its folder. */
export const nameColumn = '##name'
/** When the item was last changed, and when it was made; in every row. */
export const mtimeColumn = '##mtime'
export const ctimeColumn = '##ctime'

/** The column of an attribute's blobs and arrays: a string column whose cells are their bytes. */
export function blobColumn(attribute: string): string {
  return `#${attribute}`
}

/** The attribute whose values a column holds, null for the columns that are not attributes. */
export function attributeOf(columnName: string): string | null {
  if (!columnName.startsWith('#')) return columnName
  return columnName.startsWith('##') ? null : columnName.slice(1)
}
