import type { Engine } from '../../dist/engine/index.js'

export const request: { backend: string; table: string; session: { container: string } }
export const shared: string
export function counted(caller: number): string
export function counts(engine: Engine): Promise<Map<string, number>>
