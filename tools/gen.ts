/**
 * `npm run gen`: writes what is made from declarations, so that no page says what the program does
 * not do. The files are committed; gen.test.ts fails when one of them is out of step.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { configReference, configSchema } from '../src/config/schema.ts'
import { ROOT } from './files.ts'

/** Path from the root → what shall stand there. */
export const GENERATED: Readonly<Record<string, () => string>> = {
  'docs/reference/configuration.md': configReference,
  'docs/reference/namegate.schema.json': () => `${JSON.stringify(configSchema(), null, 2)}\n`,
}

/** The paths whose files differ from what they should be. */
export function outOfStep(): string[] {
  return Object.entries(GENERATED)
    .filter(([path, make]) => readOrEmpty(join(ROOT, path)) !== make())
    .map(([path]) => path)
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // not written yet
  }
}

if (import.meta.main) {
  for (const path of outOfStep()) {
    mkdirSync(dirname(join(ROOT, path)), { recursive: true })
    writeFileSync(join(ROOT, path), GENERATED[path]!())
    process.stdout.write(`${path} written\n`)
  }
}
