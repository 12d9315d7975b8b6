/**
 * Reads TypeScript just far enough for tidy.ts: which text is code, what a file imports, where
 * functions begin and end.
 *
 * TypeScript 7 has no programming interface and the linters' parsers are not ours to depend on, so
 * this is a scanner of comments, strings, templates and regular expressions, and nothing more. It
 * leans on the formatter: an import begins a line, a function's brace ends one.
 */

export interface Import {
  readonly specifier: string
  readonly line: number
  /** Erased before the program runs. */
  readonly isTypeOnly: boolean
  /** `export … from`. */
  readonly isReExport: boolean
}

export interface SourceFile {
  readonly path: string
  readonly text: string
  /** The text with comments blanked; as long as the text, lines and columns stay. */
  readonly code: string
  /** The same with the insides of strings, templates and regular expressions blanked as well. */
  readonly bare: string
  readonly imports: readonly Import[]
  /** Strings that look like a relative path to a source file: './main.ts' in `new URL(…)`. */
  readonly mentions: readonly string[]
}

export function readSource(path: string, text: string): SourceFile {
  const { code, bare } = mask(text)
  const mentions = [...code.matchAll(/['"`](\.{1,2}\/[\w./-]+\.ts)['"`]/g)].map(
    (found) => found[1]!,
  )
  return { path, text, code, bare, imports: findImports(code, bare), mentions }
}

/** From 1. */
export function lineAt(text: string, at: number): number {
  let line = 1
  for (let index = text.indexOf('\n'); index !== -1 && index < at; line++) {
    index = text.indexOf('\n', index + 1)
  }
  return line
}

/** Length in lines of each function with a body in braces, longest first. */
export function functionLengths(
  file: SourceFile,
): { readonly line: number; readonly lines: number }[] {
  const { bare } = file
  const open: number[] = []
  const found: { line: number; lines: number }[] = []
  for (let at = 0; at < bare.length; at++) {
    if (bare[at] === '{') open.push(at)
    if (bare[at] !== '}') continue
    const begin = open.pop()
    if (begin === undefined || !isFunctionBrace(bare, begin)) continue
    const line = lineAt(bare, begin)
    found.push({ line, lines: lineAt(bare, at) - line + 1 })
  }
  return found.sort((one, other) => other.lines - one.lines)
}

/** After `=>`, or after `)` and perhaps a type, where the `(` does not belong to `if` and its like. */
function isFunctionBrace(bare: string, brace: number): boolean {
  const before = bare.slice(Math.max(0, brace - 2_000), brace).trimEnd()
  if (before.endsWith('=>')) return true
  const close = before.lastIndexOf(')')
  if (close === -1 || !/^(?::[^;{}=]*)?$/.test(before.slice(close + 1).trimStart())) return false
  let depth = 0
  for (let at = close; at >= 0; at--) {
    if (before[at] === ')') depth++
    if (before[at] === '(' && --depth === 0) {
      const word =
        /([\w#]*)(?:<[^<>]*>)?$/.exec(before.slice(0, at).trimEnd().slice(-80))?.[1] ?? ''
      return !['if', 'for', 'while', 'switch', 'catch', 'with', 'await', 'return'].includes(word)
    }
  }
  return false
}

const STATIC =
  /^(import)\s+([\w\s{},*$]+?)\s*\bfrom\s*['"]([^'"]+)['"]|^(export)\s+((?:type\s+)?(?:\*(?:\s+as\s+\w+)?|\{[^}]*\}))\s*from\s*['"]([^'"]+)['"]/gm
const SIDE_EFFECT = /^import\s*['"]([^'"]+)['"]/gm
const DYNAMIC = /\b(typeof\s+)?import\(\s*['"]([^'"]+)['"]/g

function findImports(code: string, bare: string): Import[] {
  const imports: Import[] = []
  const add = (at: number, specifier: string, isTypeOnly: boolean, isReExport: boolean): void => {
    if (bare[at] !== code[at]) return // the words stand in a string or a template
    imports.push({ specifier, line: lineAt(code, at), isTypeOnly, isReExport })
  }
  for (const found of code.matchAll(STATIC)) {
    const isReExport = found[4] !== undefined
    const clause = (found[2] ?? found[5])!.trim()
    add(found.index, (found[3] ?? found[6])!, isTypeOnly(clause), isReExport)
  }
  for (const found of code.matchAll(SIDE_EFFECT)) add(found.index, found[1]!, false, false)
  for (const found of code.matchAll(DYNAMIC)) {
    add(found.index, found[2]!, found[1] !== undefined, false)
  }
  return imports
}

/** `type X`, `type { X }`, or braces in which every name is a type's. */
function isTypeOnly(clause: string): boolean {
  if (/^type\b/.test(clause)) return true
  const names = /^\{([^}]*)\}$/
    .exec(clause)?.[1]
    ?.split(',')
    .map((name) => name.trim())
  return names?.filter(Boolean).every((name) => name.startsWith('type ')) ?? false
}

/** A slash after one of these begins a regular expression; after anything else it divides. */
const BEFORE_REGEXP = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|await|yield))\s*$/

function mask(text: string): { code: string; bare: string } {
  const code: string[] = []
  const bare: string[] = []
  /** What closes each template hole that is open: the depth of braces inside it. */
  const holes: number[] = []
  let at = 0
  const keep = (end: number): void => {
    code.push(text.slice(at, end))
    bare.push(text.slice(at, end))
    at = end
  }
  const blank = (end: number, isComment: boolean): void => {
    const part = text.slice(at, end)
    const blanks = part.replaceAll(/[^\n]/g, ' ')
    code.push(isComment ? blanks : part)
    bare.push(blanks)
    at = end
  }
  while (at < text.length) {
    const two = text.slice(at, at + 2)
    const one = text[at]!
    if (two === '//' || two === '#!') {
      blank(until(text, '\n', at), true)
    } else if (two === '/*') {
      blank(Math.min(text.length, until(text, '*/', at + 2) + 2), true)
    } else if (one === "'" || one === '"') {
      keep(at + 1)
      blank(endOfString(text, at, one), false)
      keep(Math.min(text.length, at + 1))
    } else if (one === '`' || (one === '}' && holes.at(-1) === 0)) {
      if (one === '}') holes.pop()
      keep(at + 1)
      const end = endOfTemplate(text, at)
      blank(end, false)
      if (text.startsWith('${', end)) {
        holes.push(0)
        keep(end + 2)
      } else keep(Math.min(text.length, end + 1))
    } else if (one === '/' && BEFORE_REGEXP.test(lastWords(bare))) {
      keep(at + 1)
      blank(endOfRegExp(text, at), false)
    } else {
      if (holes.length > 0 && one === '{') holes[holes.length - 1]!++
      if (holes.length > 0 && one === '}') holes[holes.length - 1]!--
      keep(at + 1)
    }
  }
  return { code: code.join(''), bare: bare.join('') }
}

function until(text: string, mark: string, from: number): number {
  const found = text.indexOf(mark, from)
  return found === -1 ? text.length : found
}

function endOfString(text: string, from: number, quote: string): number {
  let at = from
  while (at < text.length && text[at] !== quote && text[at] !== '\n')
    at += text[at] === '\\' ? 2 : 1
  return Math.min(at, text.length)
}

function endOfTemplate(text: string, from: number): number {
  let at = from
  while (at < text.length && text[at] !== '`' && !text.startsWith('${', at)) {
    at += text[at] === '\\' ? 2 : 1
  }
  return Math.min(at, text.length)
}

function endOfRegExp(text: string, from: number): number {
  let isInClass = false
  let at = from
  for (; at < text.length && text[at] !== '\n'; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === '[') isInClass = true
    else if (text[at] === ']') isInClass = false
    else if (text[at] === '/' && !isInClass) return at + 1
  }
  return Math.min(at, text.length)
}

function lastWords(parts: readonly string[]): string {
  return parts.slice(-12).join('').slice(-40)
}
