/** The words of one line of a scenario, taken one after the other. parse.ts says what they mean. */
import { nearestWord } from '../../../src/nearest.ts'
import { durationMs } from '../clock.ts'

/** Of a TTL, the largest number that there is. */
const INTEGER_MAX = 0xffffffff

export class Words {
  readonly fault: (message: string) => never
  readonly #words: readonly string[]
  #at = 0

  /** @param fault  throws, with the line's place */
  constructor(line: string, fault: (message: string) => never) {
    this.fault = fault
    this.#words = line.match(/\([^)]*\)|"[^"]*"|\S+/g) ?? []
  }

  get isAtEnd(): boolean {
    return this.#at === this.#words.length
  }

  /** The next word, without taking it; '' at the end. */
  peek(): string {
    return (this.#words[this.#at] ?? '').replace(/,$/, '')
  }

  take(): string {
    if (this.isAtEnd) this.fault(`something is missing after '${this.#words.at(-1) ?? ''}'`)
    return this.#words[this.#at++]!
  }

  /** Takes the word if it is the next one. */
  has(word: string): boolean {
    if (this.#words[this.#at] !== word) return false
    this.#at++
    return true
  }

  expect(word: string): void {
    this.expectOne([word])
  }

  expectOne(known: readonly string[]): void {
    this.oneOf(known)
  }

  oneOf<Word extends string>(known: readonly Word[]): Word {
    const text = this.take()
    const word = known.find((candidate) => candidate === text)
    if (word !== undefined) return word
    const near = nearestWord(text, known)
    const hint = near === null ? `expected: ${known.join(', ')}` : `did you mean '${near}'?`
    return this.fault(`unknown: '${text}'; ${hint}`)
  }

  integer(): number {
    const text = this.take()
    const number = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
    return number <= INTEGER_MAX ? number : this.fault(`'${text}' is no number to ${INTEGER_MAX}`)
  }

  /** `30s`, `30 s`, `500 ms`. */
  ms(): number {
    const text = this.take()
    const isBare = /^[\d.]+$/.test(text)
    const duration = isBare ? text + this.take() : text
    if (!/^\d+(\.\d+)?(ms|s|m|h)$/.test(duration))
      this.fault(`'${duration}' is no time; write 30 s`)
    return durationMs(duration)
  }

  /** Words that end in a comma, and one that doesn't. */
  list<Item>(read: (text: string, words: Words) => Item): Item[] {
    const items: Item[] = []
    for (;;) {
      const text = this.take()
      items.push(read(text.replace(/,$/, ''), this))
      if (!text.endsWith(',')) return items
    }
  }

  /** What stands in (brackets). */
  bracket(): string {
    const text = this.take()
    return text.endsWith(')') ? text.slice(1, -1).trim() : this.fault(`'${text}' is not closed`)
  }

  /** Everything that is left, one blank between words. */
  rest(): string {
    if (this.isAtEnd) this.take()
    const text = this.#words.slice(this.#at).join(' ')
    this.#at = this.#words.length
    return text
  }

  end(): void {
    if (!this.isAtEnd) this.fault(`'${this.rest()}' is too much here`)
  }
}
