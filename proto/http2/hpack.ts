// Stub until the branch h2client brings it.
export type Headers = Readonly<Record<string, string>>
