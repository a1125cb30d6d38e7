import type { Engine, Frame } from '../../dist/engine/index.js'

export const request: { backend: string; table: string; session: { container: string } }
export function writeNumber(
  stream: number,
  n: number,
): { write: { backend: string; table: string; session: { container: string }; saveMode: string }; frame: Frame }
export function lastWrite(engine: Engine, stream: number, from: number): Promise<number>
