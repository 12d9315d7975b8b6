/**
 * YAML with places: every value knows its line, column and field, so that a fault names the spot
 * where a person must change the file. Read by policy/sources/cilium.ts and clients.ts.
 *
 * What must stay true: nothing is read leniently. A key that appears twice, a number where text
 * belongs, a word that other YAML readers take for a boolean: each is a fault. And a file cannot
 * cost more than its size: keys are compared in sets, aliases are counted, and what aliases expand
 * to is read within a budget (a few lines of them can stand for billions of values).
 */
import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
  Scalar,
} from 'yaml'
import type { Place } from '../rule.ts'
import type { PolicyFault } from '../snapshot.ts'
import { suggestion } from './nearest.ts'

const ALIASES_MAX = 1000
/** Values read from one file, each as often as an alias names it. */
const VALUES_MAX = 5_000_000

/** Booleans of YAML 1.1, which kubectl and the API server still read. */
const OLD_BOOLEAN = /^(y|yes|n|no|on|off)$/i

export class YamlFile {
  readonly file: string
  readonly faults: PolicyFault[] = []
  readonly documents: readonly YamlValue[]
  /** Set when the file asked for more than it may: then something was read as nothing. */
  limitFault: PolicyFault | null = null
  readonly #lines = new LineCounter()
  #aliasesLeft = ALIASES_MAX
  #valuesLeft = VALUES_MAX
  readonly #resolved = new Map<Alias, Node | null>()

  /** @param bytesMax  longer files are one fault */
  constructor(text: string, file: string, bytesMax: number) {
    this.file = file
    this.documents = text.length > bytesMax ? this.#refuseSize(bytesMax) : this.#parse(text)
  }

  fault(place: Place, message: string): void {
    this.faults.push({ file: this.file, ...place, message })
  }

  placeOf(offset: number, field: string): Place {
    const { line, col } = this.#lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1), field }
  }

  /** What the node is after following aliases; null for nothing, and when the file asks too much. */
  resolve(node: Node | null, document: Document): Node | null {
    if (--this.#valuesLeft < 0) return this.#refuseMore(`more than ${VALUES_MAX} values`)
    if (!isAlias(node)) return node
    const known = this.#resolved.get(node)
    if (known !== undefined) return known
    // Each look-up walks the document, so there cannot be many.
    if (--this.#aliasesLeft < 0) return this.#refuseMore(`more than ${ALIASES_MAX} aliases`)
    const target = node.resolve(document) ?? null
    this.#resolved.set(node, target)
    return target
  }

  #refuseMore(what: string): null {
    const place = this.placeOf(0, '')
    this.limitFault ??= { file: this.file, ...place, message: `the file has ${what}` }
    return null
  }

  #refuseSize(bytesMax: number): YamlValue[] {
    this.fault({ line: 1, column: 1, field: '' }, `the file is larger than ${bytesMax >>> 10} KiB`)
    return []
  }

  #parse(text: string): YamlValue[] {
    // The library compares the keys of a mapping in pairs; YamlValue does it with a set.
    const options = {
      lineCounter: this.#lines,
      prettyErrors: false,
      uniqueKeys: false,
      logLevel: 'silent',
    } as const
    let documents: readonly Document[]
    try {
      documents = [...parseAllDocuments(text, options)]
    } catch (error) {
      // It throws only when the nesting is deeper than the stack.
      const words = error instanceof Error ? error.message : String(error)
      this.fault({ line: 1, column: 1, field: '' }, `cannot be read as YAML: ${words}`)
      return []
    }
    return documents.map((document) => {
      for (const problem of [...document.errors, ...document.warnings]) {
        this.fault(this.placeOf(problem.pos[0], ''), `cannot be read as YAML: ${problem.message}`)
      }
      return new YamlValue(this, document, document.contents, '', document.range?.[0] ?? 0)
    })
  }
}

export class YamlValue {
  readonly field: string
  readonly #file: YamlFile
  readonly #document: Document
  readonly #node: Node | null
  readonly #offset: number
  readonly #keyOffset: number
  /** '*.example.com' without quotes is YAML for "what was called .example.com before". */
  readonly #alias: string | null

  /** @param keyOffset  its key; where there is no value, faults are shown there */
  constructor(
    file: YamlFile,
    document: Document,
    node: Node | null,
    field: string,
    keyOffset: number,
  ) {
    this.field = field
    this.#file = file
    this.#document = document
    this.#node = file.resolve(node, document)
    this.#offset = node?.range?.[0] ?? keyOffset
    this.#keyOffset = keyOffset
    this.#alias = isAlias(node) && this.#node === null ? `*${node.source}` : null
  }

  get place(): Place {
    return this.#file.placeOf(this.#offset, this.field)
  }

  /** Whether nothing stands there. */
  get isNull(): boolean {
    return this.#node === null || (isScalar(this.#node) && this.#node.value === null)
  }

  get isNumber(): boolean {
    return isScalar(this.#node) && typeof this.#node.value === 'number'
  }

  get isMap(): boolean {
    return isMap(this.#node)
  }

  get isList(): boolean {
    return isSeq(this.#node)
  }

  fault(message: string): null {
    this.#file.fault(this.place, message)
    return null
  }

  /**
   * The values of a mapping that may hold these keys; null, with a fault, when it is no mapping.
   * @param refused  keys that the format knows and we do not serve, with the reason
   */
  fields(
    known: readonly string[],
    refused: Readonly<Record<string, string>> = {},
  ): ReadonlyMap<string, YamlValue> | null {
    const fields = this.entries()
    if (fields === null) return null
    for (const [key, value] of fields) {
      if (known.includes(key)) continue
      const reason = Object.hasOwn(refused, key) ? refused[key] : undefined
      if (reason !== undefined) value.faultAtKey(reason)
      else value.faultAtKey(`unknown key '${key}'${suggestion(key, known)}`)
    }
    return fields
  }

  /** The values of a mapping with any keys; null, with a fault, when it is no mapping. */
  entries(): ReadonlyMap<string, YamlValue> | null {
    if (!isMap(this.#node)) return this.fault('must be a mapping of keys and values')
    const entries = new Map<string, YamlValue>()
    for (const pair of this.#node.items) {
      const key = this.#file.resolve(pair.key as Node | null, this.#document)
      const offset = (pair.key as Node | null)?.range?.[0] ?? this.#offset
      const text = isScalar(key) && key.value !== null ? String(key.value) : null
      const field = this.field === '' ? (text ?? '') : `${this.field}.${text ?? ''}`
      const node = pair.value as Node | null
      const value = new YamlValue(this.#file, this.#document, node, field, offset)
      if (text === null) value.faultAtKey('a key must be text')
      else if (entries.has(text)) value.faultAtKey(`key '${text}' appears twice`)
      else entries.set(text, value)
    }
    return entries
  }

  /** The values of a list; null, with a fault, when it is none. */
  items(): readonly YamlValue[] | null {
    if (!isSeq(this.#node)) return this.fault('must be a list')
    return this.#node.items.map(
      (item, index) =>
        new YamlValue(
          this.#file,
          this.#document,
          item as Node | null,
          `${this.field}[${index}]`,
          this.#offset,
        ),
    )
  }

  /** Text; null, with a fault, when it is anything else. */
  text(): string | null {
    const node = this.#node
    const alias = this.#alias
    if (alias !== null) {
      return this.fault(`${alias} is an alias of nothing in YAML; write "${alias}" in quotes`)
    }
    if (!isScalar(node) || node.value === null) return this.fault('must be text')
    if (typeof node.value !== 'string') {
      return this.fault(`must be text; write "${node.source ?? String(node.value)}" in quotes`)
    }
    if (node.type === Scalar.PLAIN && OLD_BOOLEAN.test(node.value)) {
      return this.fault(`kubectl reads ${node.value} as a boolean; write "${node.value}" in quotes`)
    }
    return node.value
  }

  /** A whole number from `min` to `max`; null, with a fault, when it is anything else. */
  integer(min: number, max: number): number | null {
    const value = isScalar(this.#node) ? this.#node.value : null
    if (typeof value === 'number' && Number.isInteger(value) && min <= value && value <= max) {
      return value
    }
    return this.fault(`must be a whole number from ${min} to ${max}`)
  }

  boolean(): boolean | null {
    const value = isScalar(this.#node) ? this.#node.value : null
    return typeof value === 'boolean' ? value : this.fault('must be true or false')
  }

  /** A fault about this value's key rather than the value. */
  faultAtKey(message: string): void {
    this.#file.fault(this.#file.placeOf(this.#keyOffset, this.field), message)
  }
}
