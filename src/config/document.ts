/**
 * A YAML document against the tree of declared options: values, or faults with their places.
 *
 * Knows how keys nest, what is missing, unknown or not built; what a value means is said in
 * values.ts, and what the program makes of the values in load.ts. Every fault of the document is
 * found in one pass, because a person repairs a file once, not key by key.
 */
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Document,
  type Node,
  type ParsedNode,
  parseDocument,
  type YAMLMap,
} from 'yaml'
import { assert } from '../assert.ts'
import { nearestWord } from '../nearest.ts'
import type { Option } from '../option.ts'
import { OPTIONAL_MAPPINGS, OPTIONS, UNBUILT } from './options.ts'
import { BadValue, readValue, type ValueContext } from './values.ts'

/** One thing wrong in the file, at the place where a person must change it. */
export interface ConfigFault {
  readonly file: string
  /** From 1. */
  readonly line: number
  readonly column: number
  /** 'upstreams[0].servers[1]'; '' for the document. */
  readonly key: string
  /** What is wrong and what to do. */
  readonly message: string
}

/** Values as read, by key: scalars, lists, mappings, lists of mappings. */
export type Values = { readonly [key: string]: unknown }

/** What a key of the tree may hold: a value (`option`), a mapping or a list of mappings. */
interface Branch {
  /** As declared: 'upstreams[].servers'. */
  readonly key: string
  readonly children: Map<string, Branch>
  readonly isList: boolean
  option: Option | null
}

/** A longer file is no configuration. The bound also keeps aliases cheap: each walks the file. */
const TEXT_LENGTH_MAX = 1 << 16

const ROOT = buildTree(OPTIONS)

export class ConfigDocument {
  readonly faults: ConfigFault[] = []
  readonly #file: string
  readonly #context: ValueContext
  readonly #lines = new LineCounter()
  readonly #places = new Map<string, number>()
  readonly #document: Document.Parsed

  constructor(text: string, file: string, context: ValueContext) {
    this.#file = file
    this.#context = context
    const isTooLong = text.length > TEXT_LENGTH_MAX
    const options = { lineCounter: this.#lines, prettyErrors: false }
    this.#document = parseDocument(isTooLong ? '' : text, options)
    if (isTooLong) this.fault('', 0, 'the file is longer than 64 KiB: this is no configuration')
    // Warnings are tags that nobody knows: what the author meant by them would be lost.
    for (const error of [...this.#document.errors, ...this.#document.warnings]) {
      this.fault('', error.pos[0], `not YAML: ${error.message}`)
    }
  }

  /** The values of the whole file, defaults filled in; only to be used when there are no faults. */
  read(): Values {
    if (this.faults.length > 0) return {}
    const node = this.#document.contents
    return this.#mapping(node, ROOT, '')
  }

  /** Notes a fault at an offset into the text. */
  fault(key: string, offset: number, message: string): void {
    const place = this.#lines.linePos(offset)
    const line = Math.max(1, place.line)
    this.faults.push({ file: this.#file, line, column: Math.max(1, place.col), key, message })
  }

  /** Notes a fault at a key of the file, or at the nearest mapping around one that is absent. */
  faultAt(key: string, message: string): void {
    let at = key
    while (at !== '' && !this.#places.has(at)) at = at.replace(/(^|\.)[^.]*$/, '')
    this.fault(key, this.#places.get(at) ?? 0, message)
  }

  /** @param node  null: the mapping is not in the file, and its keys get their defaults */
  #mapping(node: Node | null, branch: Branch, key: string): Values {
    const values: Record<string, unknown> = {}
    if (node !== null && !isMap(node)) {
      this.fault(key, offsetOf(node), `must be a mapping of ${listKeys(branch)}`)
      return values
    }
    const present = node === null ? new Set<string>() : this.#pairs(node, branch, key, values)
    for (const [name, child] of branch.children) {
      if (!present.has(name)) values[name] = this.#absent(child, join(key, name))
    }
    return values
  }

  /** Reads the pairs of a mapping into `values`; returns the known keys among them. */
  #pairs(map: YAMLMap, branch: Branch, key: string, values: Record<string, unknown>): Set<string> {
    const present = new Set<string>()
    for (const pair of map.items) {
      const keyNode = pair.key as ParsedNode
      const name = isScalar(keyNode) ? (keyNode.source ?? String(keyNode.value)) : null
      if (name === null) {
        this.fault(key, offsetOf(keyNode), 'a key must be a word')
        continue
      }
      const child = branch.children.get(name)
      const place = join(key, name)
      if (!child) {
        this.fault(place, offsetOf(keyNode), unknownKey(name, branch))
        continue
      }
      present.add(name)
      const value = this.#resolve(pair.value as ParsedNode | null)
      if (value === undefined) continue
      if (value === null || (isScalar(value) && value.value === null)) {
        this.fault(place, offsetOf(keyNode), 'has no value; write one or remove the line')
        continue
      }
      this.#places.set(place, offsetOf(value))
      values[name] = this.#value(value, child, place, offsetOf(keyNode))
    }
    return present
  }

  #value(node: Node, branch: Branch, key: string, keyOffset: number): unknown {
    const unbuilt = UNBUILT.find((entry) => entry.key === branch.key)
    const { option } = branch
    if (!option) {
      if (unbuilt) this.fault(key, keyOffset, unbuilt.message)
      else if (branch.isList) return this.#mappings(node, branch, key)
      else return this.#mapping(node, branch, key)
      return undefined
    }
    const value = option.isList ? this.#list(node, option, key) : this.#scalar(node, option, key)
    if (unbuilt && value !== undefined) {
      const isOff = unbuilt.off !== undefined && value === this.#read(unbuilt.off, option)
      const isRefused = unbuilt.value === undefined ? !isOff : value === unbuilt.value
      if (isRefused) this.fault(key, keyOffset, unbuilt.message)
    }
    return value
  }

  #mappings(node: Node, branch: Branch, key: string): Values[] {
    if (!isSeq(node) || node.items.length === 0) {
      this.fault(
        key,
        offsetOf(node),
        `must be a list of at least one mapping of ${listKeys(branch)}`,
      )
      return []
    }
    return node.items.map((item, index) => {
      const place = `${key}[${index}]`
      const element = this.#resolve(item as ParsedNode)
      this.#places.set(place, element ? offsetOf(element) : offsetOf(node))
      return this.#mapping(element ?? null, branch, place)
    })
  }

  #list(node: Node, option: Option, key: string): unknown[] {
    if (!isSeq(node)) {
      this.fault(key, offsetOf(node), 'must be a list; write [ ] around it')
      return []
    }
    const { min = 0, max = Number.POSITIVE_INFINITY } = option
    if (node.items.length < min) this.fault(key, offsetOf(node), `needs at least ${min}`)
    if (node.items.length > max) this.fault(key, offsetOf(node), `has more than ${max}`)
    const values: unknown[] = []
    for (const [index, item] of node.items.slice(0, max).entries()) {
      const element = this.#resolve(item as ParsedNode)
      const place = `${key}[${index}]`
      this.#places.set(place, element ? offsetOf(element) : offsetOf(node))
      values.push(element ? this.#scalar(element, option, place) : undefined)
    }
    return values
  }

  #scalar(node: Node, option: Option, key: string): unknown {
    if (!isScalar(node)) {
      this.fault(key, offsetOf(node), 'must be a single value')
      return undefined
    }
    // The text as written: YAML would make a number of 0x4e470000, and 1.10 of a name.
    const text = node.source ?? String(node.value)
    try {
      return readValue(text, option, this.#context)
    } catch (error) {
      if (!(error instanceof BadValue)) throw error
      this.fault(key, offsetOf(node), error.message)
      return undefined
    }
  }

  /** What an absent key stands for. */
  #absent(branch: Branch, key: string): unknown {
    if (branch.option) {
      if (branch.option.default === undefined) this.faultAt(key, 'is missing, and has no default')
      return this.#default(branch.option)
    }
    if (OPTIONAL_MAPPINGS.includes(branch.key)) return null
    if (branch.isList) {
      this.faultAt(key, `is missing; write a list of mappings of ${listKeys(branch)}`)
      return []
    }
    return this.#mapping(null, branch, key)
  }

  #default(option: Option): unknown {
    const off = UNBUILT.find((entry) => entry.key === option.key)?.off
    const written = off ?? option.default
    if (written === undefined || written === null) return null
    if (!option.isList) return this.#read(String(written), option)
    assert(Array.isArray(written), 'the default of a list is a list')
    return written.map((text: string) => this.#read(text, option))
  }

  #read(text: string, option: Option): unknown {
    return readValue(text, option, this.#context)
  }

  /** The node that an alias stands for; undefined when there is none, which is then a fault. */
  #resolve(node: ParsedNode | null): Node | null | undefined {
    if (!isAlias(node)) return node
    const target = node.resolve(this.#document)
    if (!target) this.fault('', offsetOf(node), `no anchor &${node.source} before this alias`)
    return target
  }
}

function buildTree(options: readonly Option[]): Branch {
  const root: Branch = { key: '', children: new Map(), isList: false, option: null }
  for (const option of options) {
    let branch = root
    for (const part of option.key.split('.')) {
      const name = part.replace(/\[\]$/, '')
      let child = branch.children.get(name)
      if (!child) {
        const key = branch.key === '' ? part : `${branch.key}.${part}`
        child = { key, children: new Map(), isList: part.endsWith('[]'), option: null }
        branch.children.set(name, child)
      }
      branch = child
    }
    assert(branch.option === null && branch.children.size === 0, 'each key is declared once')
    branch.option = option
  }
  return root
}

function unknownKey(name: string, branch: Branch): string {
  const near = nearestWord(name, [...branch.children.keys()])
  if (near !== null) return `unknown key; did you mean '${near}'?`
  const elsewhere = OPTIONS.find((option) => option.key.endsWith(`.${name}`))
  if (elsewhere) return `unknown key here; it is known as ${elsewhere.key}`
  return `unknown key; known here are ${listKeys(branch)}`
}

function listKeys(branch: Branch): string {
  return [...branch.children.keys()].join(', ')
}

function join(key: string, name: string): string {
  return key === '' ? name : `${key}.${name}`
}

function offsetOf(node: { range?: readonly [number, number, number] | null } | null): number {
  return node?.range?.[0] ?? 0
}
