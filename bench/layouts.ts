// How the workload is cut into frames. Both layouts are plain typed arrays; what is timed starts from them.
import { Column, Frame } from '../engine/index.js'
import { wholeColumn } from './columns.js'
import { metricNames, tagNames, type Workload, type WorkloadValues } from './tsbs.js'

/**
 * host  one frame for each host and 12 hours (4320 rows), tags as the frame's labels: how a collector that keeps each
 *       host's history apart would send it, and the layout in which the published clients write one series.
 * span  one frame for all hosts and a stretch of time (about as many rows), time by time, tags as ten text index columns:
 *       how a data frame of mixed series arrives, as TSBS itself orders its samples.
 */
export type Layout = 'host' | 'span'
export const layouts: readonly Layout[] = ['host', 'span']

const hostFrameRowCountMax = 4320
const spanFrameRowCountMax = 43_200

export function framesOf(workload: Workload, layout: Layout): Frame[] {
  return layout === 'host' ? framesByHost(workload) : framesBySpan(workload)
}

function framesByHost({ hosts, timesNs, values }: Workload): Frame[] {
  const dtype = dtypeOf(values)
  const frames: Frame[] = []
  for (let start = 0; start < timesNs.length; start += hostFrameRowCountMax) {
    const end = Math.min(start + hostFrameRowCountMax, timesNs.length)
    for (const { tags, metrics } of hosts) {
      frames.push(
        new Frame({
          columns: metricNames.map((name, metric) => wholeColumn(name, dtype, metrics[metric].subarray(start, end))),
          indices: [wholeColumn('time', 'time', timesNs.subarray(start, end))],
          labels: tags,
        }),
      )
    }
  }
  return frames
}

function framesBySpan({ hosts, timesNs, values }: Workload): Frame[] {
  const dtype = dtypeOf(values)
  const stepCount = Math.max(1, Math.floor(spanFrameRowCountMax / hosts.length))
  const frames: Frame[] = []
  for (let start = 0; start < timesNs.length; start += stepCount) {
    const end = Math.min(start + stepCount, timesNs.length)
    const byTime = (arrayOf: (host: number) => BigInt64Array | Float64Array): BigInt64Array | Float64Array => {
      const arrays = hosts.map((_, host) => arrayOf(host))
      const all = arrays[0] instanceof Float64Array ? Float64Array : BigInt64Array
      const interleaved = new all((end - start) * hosts.length)
      let at = 0
      for (let row = start; row < end; row++) for (const array of arrays) interleaved[at++] = array[row]
      return interleaved
    }
    frames.push(
      new Frame({
        columns: metricNames.map((name, metric) =>
          wholeColumn(
            name,
            dtype,
            byTime((host) => hosts[host].metrics[metric]),
          ),
        ),
        indices: [
          wholeColumn(
            'time',
            'time',
            byTime(() => timesNs),
          ),
          ...tagNames.map((tag) => {
            const texts = hosts.map(({ tags }) => tags[tag])
            return textColumn(tag, texts, end - start)
          }),
        ],
      }),
    )
  }
  return frames
}

function dtypeOf(values: WorkloadValues): 'int64' | 'float64' {
  return values === 'whole numbers' ? 'int64' : 'float64'
}

/** The texts one after the other, again and again. */
function textColumn(name: string, texts: readonly string[], repeatCount: number): Column {
  const once = texts.map((text) => Buffer.from(text))
  const length = texts.length * repeatCount
  const offsets = new Uint32Array(length + 1)
  let byteLength = 0
  for (let row = 0; row < length; row++) offsets[row + 1] = byteLength += once[row % once.length].byteLength
  const block = Buffer.concat(once)
  const bytes = new Uint8Array(byteLength)
  for (let at = 0; at < byteLength; at += block.byteLength) bytes.set(block, at)
  return Column.fromBuffers({
    name,
    kind: 'slice',
    length,
    validity: null,
    buffers: { dtype: 'string', offsets, bytes },
  })
}
