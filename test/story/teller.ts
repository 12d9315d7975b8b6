/**
 * Tells the story: what is done, what was promised, what was seen. For people, as it happens; for
 * programs (--json) as one object a line. story.ts says what to tell.
 */
import { styleText } from 'node:util'

/** One line of --json. */
export interface Told {
  /** '4.2': the second thing of chapter 4. */
  readonly step: string
  /** As a person would type it in the world's directory. */
  readonly command: string
  readonly promised: string
  readonly seen: string
  readonly ok: boolean
}

export interface Seen {
  readonly seen: string
  readonly ok: boolean
}

export interface Check {
  readonly command: string
  readonly look: () => Promise<Seen>
}

export class Teller {
  readonly #isJson: boolean
  readonly #print: (text: string) => void
  #chapter = 0
  #count = 0
  #current: { step: string; command: string; promised: string } | null = null
  /** Steps told so far, and those that did not go as promised. */
  told = 0
  readonly broken: string[] = []

  constructor(isJson: boolean, print: (text: string) => void) {
    this.#isJson = isJson
    this.#print = print
  }

  chapter(number: number, title: string): void {
    this.#chapter = number
    this.#count = 0
    if (!this.#isJson) this.#print(`\n${styleText('bold', `${number}  ${title}`)}\n`)
  }

  /** Something that is no step: for people only. */
  say(text: string): void {
    if (!this.#isJson) this.#print(`${text}\n`)
  }

  /** Does it and compares. A step that throws is a broken promise, and the story goes on. */
  async step(promised: string, check: Check): Promise<void> {
    const step = `${this.#chapter}.${++this.#count}`
    this.#current = { step, command: check.command, promised }
    if (!this.#isJson) this.#print(`\n${styleText('dim', step.padEnd(6))}${check.command}\n`)
    let seen: Seen
    try {
      seen = await check.look()
    } catch (error) {
      seen = { seen: error instanceof Error ? error.message : String(error), ok: false }
    }
    this.#tell(seen)
  }

  /** The step that is being done ends here, broken. */
  interrupt(why: string): void {
    if (this.#current !== null) this.#tell({ seen: why, ok: false })
  }

  #tell(seen: Seen): void {
    const told: Told = { ...this.#current!, ...seen }
    this.#current = null
    this.told++
    if (!told.ok) this.broken.push(told.step)
    this.#print(this.#isJson ? `${JSON.stringify(told)}\n` : `${tellToPeople(told)}\n`)
  }
}

const INDENT = ' '.repeat(6)

function tellToPeople({ promised, seen, ok }: Told): string {
  const lines = seen.trim().split('\n').join(`\n${INDENT}  `)
  const mark = ok ? styleText('green', '✓') : styleText(['bold', 'red'], '✗ not as promised:')
  return `${INDENT}${styleText('dim', promised)}\n${INDENT}${mark} ${lines}`
}
