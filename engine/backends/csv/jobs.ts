// The worker half of the csv backend: its kinds of jobs.
import { csvReadHandlers } from './read-jobs.js'
import { csvWriteHandlers } from './write-jobs.js'

export const csvHandlers = { ...csvReadHandlers, ...csvWriteHandlers }
