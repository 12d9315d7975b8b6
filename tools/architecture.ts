/**
 * The tables of docs/ARCHITECTURE.md that tidy.ts enforces. The document is the only place where
 * they stand: who may import whom is argued there, beside the reasons, and obeyed here.
 *
 * Forms, so that a person can edit them:
 *     | `cache`, `flow` | `wire`, `policy/table.ts`, `grant` (types) | because … |
 *     | `agent` | `*` except `proxy`, `ctl` | because … |
 *     | — means nothing of ours.
 * A name is a folder below src/ (or bin, test, …), one file in it, or the file of that name in any
 * folder, with a star for the folder, as in the row of `config`.
 */

export interface ImportRule {
  readonly folder: string
  /** '*' is among them when all may be imported but `except`. */
  readonly allowed: readonly { readonly target: string; readonly isTypeOnly: boolean }[]
  readonly except: readonly string[]
}

/** What may be used where: a package, or something ambient like the clock. */
export interface PlaceRule {
  readonly what: string
  /** Folders or files, from the root of the checkout. */
  readonly places: readonly string[]
}

export interface Architecture {
  readonly imports: readonly ImportRule[]
  readonly packages: readonly PlaceRule[]
  readonly ambient: readonly PlaceRule[]
  /** Folders that the drawing of the tree names, from the root, without a slash at the end. */
  readonly tree: readonly string[]
}

export const HEADINGS = {
  tree: 'The tree',
  imports: 'Who may import whom',
  packages: 'Who may import a package',
  ambient: 'Who may touch what is ambient',
} as const

/** Throws when a section is missing: a rule that nobody can read must not pass for obeyed. */
export function readArchitecture(markdown: string): Architecture {
  return {
    imports: rows(markdown, HEADINGS.imports).flatMap(importRules),
    packages: rows(markdown, HEADINGS.packages).flatMap(placeRules),
    ambient: rows(markdown, HEADINGS.ambient).flatMap(placeRules),
    tree: treeFolders(section(markdown, HEADINGS.tree)),
  }
}

function importRules([folders = '', allowed = '']: readonly string[]): ImportRule[] {
  const [targets = '', except = ''] = allowed.split(' except ')
  const found = [...targets.matchAll(/`([^`]+)`( \(types\))?/g)]
  return names(folders).map((folder) => ({
    folder,
    allowed: found.map((one) => ({ target: one[1]!, isTypeOnly: one[2] !== undefined })),
    except: names(except),
  }))
}

function placeRules([what = '', places = '']: readonly string[]): PlaceRule[] {
  return names(what).map((one) => ({ what: one, places: names(places) }))
}

function names(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map((found) => found[1]!)
}

/** The first table below the heading, without its head. */
function rows(markdown: string, heading: string): string[][] {
  const lines = section(markdown, heading).split('\n')
  const table = lines.filter((line) => line.startsWith('|')).slice(2)
  if (table.length === 0) throw new Error(`ARCHITECTURE.md: no table under '${heading}'`)
  return table.map((line) =>
    line
      .slice(1)
      .split('|')
      .map((cell) => cell.trim()),
  )
}

function section(markdown: string, heading: string): string {
  const lines = markdown.split('\n')
  const begin = lines.findIndex((line) => /^#+ /.test(line) && line.includes(heading))
  if (begin === -1) throw new Error(`ARCHITECTURE.md: no heading '${heading}'`)
  const length = lines.slice(begin + 1).findIndex((line) => /^#+ /.test(line))
  return lines.slice(begin + 1, length === -1 ? undefined : begin + 1 + length).join('\n')
}

/** Two spaces a level; a folder ends in a slash; what follows it on the line is for people. */
function treeFolders(text: string): string[] {
  const drawing = /```\n([\s\S]*?)```/.exec(text)?.[1]
  if (drawing === undefined) throw new Error(`ARCHITECTURE.md: no drawing under '${HEADINGS.tree}'`)
  const folders: string[] = []
  const path: string[] = []
  for (const line of drawing.split('\n')) {
    const found = /^((?: {2})*)([\w.-]+)\/(?:\s|$)/.exec(line)
    if (found === null) continue
    path.length = found[1]!.length / 2
    path.push(found[2]!)
    folders.push(path.join('/'))
  }
  return folders
}
