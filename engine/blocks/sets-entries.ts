// The entries of label sets: stored twice, because without them no row of the table can be read.
import { FramesError } from '../errors.js'
import type { Entry } from '../stores/store.js'
import { scanAll } from './entries.js'
import { keyKinds, keyNumbers, kindRange, setsCopyKey, setsKey } from './keys.js'
import { seal, unseal } from './sealed.js'
import type { TableContext } from './table-context.js'

/** The entry with the number `first`, as it goes into a commit. */
export function setsEntries(first: number, payload: Uint8Array): Entry[] {
  return [setsKey(BigInt(first)), setsCopyKey(BigInt(first))].map((key) => ({ key, value: seal(key, payload) }))
}

/** The values under `sets`, in order; where one is damaged, its copy serves. Throws DATA_DAMAGED. */
export async function* setsPayloads(context: TableContext): AsyncGenerator<Uint8Array> {
  const { store, report, partition, name } = context
  let expected = 0n
  for await (const { key, value } of scanAll(store, partition, kindRange(keyKinds.sets))) {
    const [first] = keyNumbers(key) as [bigint]
    // A gap: the entry is missing, and the copy may be there.
    for (; expected < first; expected++) yield await setsCopy(context, expected)
    const payload = unseal(key, value)
    if (payload === null) report(`label sets of table '${name}' are damaged (entry ${first})`, null)
    yield payload ?? (await setsCopy(context, first))
    expected++
  }
}

async function setsCopy(context: TableContext, first: bigint): Promise<Uint8Array> {
  const { store, report, partition, name } = context
  const copyKey = setsCopyKey(first)
  const [value] = await store.read(partition, [copyKey])
  const payload = value == null ? null : unseal(copyKey, value)
  if (payload === null)
    throw new FramesError(
      'DATA_DAMAGED',
      `label sets of table '${name}' are damaged (entry ${first}), and so is their copy`,
    )
  const key = setsKey(first)
  await store.commit({ partition, puts: [{ key, value: seal(key, payload) }] })
  report(`label sets of table '${name}' are written anew from their copy (entry ${first})`, null)
  return payload
}
