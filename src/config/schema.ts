/**
 * The reference page and the JSON Schema of namegate.yaml, both made from options.ts.
 *
 * `npm run gen` writes them to docs/reference/configuration.md and namegate.schema.json; a test
 * fails when the files are out of step. The schema is for editors: it knows shapes, not what must
 * hold between keys, which only load.ts checks.
 */
import type { Option, OptionKind } from '../option.ts'
import { OPTIONAL_MAPPINGS, OPTIONS, UNBUILT } from './options.ts'
import { formatDuration, formatSize } from './values.ts'

/** A part of a JSON Schema, draft 2020-12. */
export type Schema = { [key: string]: unknown }

const KIND_SCHEMAS: Record<OptionKind, Schema> = {
  text: { type: ['string', 'number'] },
  path: { type: 'string', minLength: 1 },
  size: { type: ['string', 'integer'], pattern: '^(0|[0-9]{1,10}(KiB|MiB|GiB))$', maximum: 0 },
  duration: { type: ['string', 'integer'], pattern: '^(0|[0-9]{1,10}[smhd])$', maximum: 0 },
  port: { type: 'integer', minimum: 1, maximum: 65535 },
  integer: { type: 'integer' },
  boolean: { type: 'boolean' },
  choice: { type: 'string' },
  mark: {
    type: 'string',
    pattern: '^(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})/(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})$',
  },
  address: { type: 'string', anyOf: [{ format: 'ipv4' }, { format: 'ipv6' }] },
  interface: { type: 'string', pattern: '^[A-Za-z0-9_.:@-]*\\*?$', minLength: 1, maxLength: 15 },
  zone: { type: 'string', pattern: '^(\\.|([A-Za-z0-9_-]{1,63}\\.)*[A-Za-z0-9_-]{1,63}\\.?)$' },
  server: { type: 'string', minLength: 2 },
  listener: { type: 'string', minLength: 1 },
}

const KIND_TEXTS: Record<OptionKind, string> = {
  text: 'text',
  path: 'path; a relative one starts at the directory of the file',
  size: 'whole number with KiB, MiB or GiB',
  duration: 'whole number with s, m, h or d',
  port: 'port',
  integer: 'whole number',
  boolean: 'true or false',
  choice: 'one of',
  mark: 'value/mask',
  address: 'IP address',
  interface: 'interface name, or its beginning and *',
  zone: 'zone name',
  server: 'server, or path of a file',
  listener: 'unix:PATH or address:port',
}

/** The JSON Schema of the configuration file. Keys that are not built yet are not in it. */
export function configSchema(): Schema {
  const root: Schema = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'namegate.yaml',
    ...mappingSchema(),
  }
  for (const option of OPTIONS) {
    if (isUnbuilt(option.key)) continue
    let mapping = root
    const parts = option.key.split('.')
    for (const [index, part] of parts.entries()) {
      const name = part.replace(/\[\]$/, '')
      const isLast = index === parts.length - 1
      const key = parts.slice(0, index + 1).join('.')
      const isNeeded = isLast ? option.default === undefined : isMappingNeeded(key)
      if (isNeeded) addRequired(mapping, name)
      const properties = mapping['properties'] as Record<string, Schema>
      if (isLast) properties[name] = optionSchema(option)
      else mapping = descend(properties, name, part.endsWith('[]'))
    }
  }
  return root
}

/** docs/reference/configuration.md. */
export function configReference(): string {
  const lines = [
    '# Configuration',
    '',
    '<!-- Generated from the options declared in src by `npm run gen`; do not edit. -->',
    '',
    'One YAML file, by default /etc/namegate/namegate.yaml, for both daemons and all commands. An',
    'unknown key is an error. The daemons read the file again on SIGHUP and when it changes; a file',
    'with a fault changes nothing, and the former settings stay in force.',
  ]
  let section = ''
  for (const option of OPTIONS) {
    if (isUnbuilt(option.key)) continue
    const top = option.key.includes('.')
      ? option.key.replace(/(\[\])?\..*$/, '')
      : 'node, state, run'
    if (top !== section) lines.push('', `## ${top}`)
    section = top
    lines.push('', `### \`${option.key}\``, '', option.why, '', `- ${valueText(option)}`)
    lines.push(`- ${defaultText(option)}`)
  }
  lines.push('', '## Not built yet', '', 'These are refused with an error that says so:', '')
  for (const { key, value, off, message } of UNBUILT) {
    const what =
      value === undefined ? (off === undefined ? '' : ` other than ${off}`) : `: ${value}`
    lines.push(`- \`${key}\`${what}: ${message}.`)
  }
  return `${lines.join('\n')}\n`
}

function mappingSchema(): Schema {
  return { type: 'object', additionalProperties: false, properties: {} }
}

function descend(properties: Record<string, Schema>, name: string, isList: boolean): Schema {
  const existing = properties[name]
  if (existing) return (isList ? existing['items'] : existing) as Schema
  const mapping = mappingSchema()
  properties[name] = isList ? { type: 'array', minItems: 1, items: mapping } : mapping
  return mapping
}

function addRequired(mapping: Schema, name: string): void {
  const required = (mapping['required'] as string[] | undefined) ?? []
  if (!required.includes(name)) mapping['required'] = [...required, name]
}

/** Whether a mapping must be there: it is not optional and one of its keys has no default. */
function isMappingNeeded(key: string): boolean {
  if (OPTIONAL_MAPPINGS.includes(key)) return false
  return OPTIONS.some((option) => option.key.startsWith(`${key}.`) && option.default === undefined)
}

function isUnbuilt(key: string): boolean {
  return UNBUILT.some((entry) => {
    return entry.value === undefined && (key === entry.key || key.startsWith(`${entry.key}.`))
  })
}

function optionSchema(option: Option): Schema {
  const refused = UNBUILT.filter((entry) => entry.key === option.key).map((entry) => entry.value)
  const values = option.values?.filter((value) => !refused.includes(value))
  const element: Schema = { ...KIND_SCHEMAS[option.kind], ...(values ? { enum: values } : {}) }
  if (option.kind === 'integer')
    Object.assign(element, { minimum: option.min, maximum: option.max })
  const described = option.default === null ? {} : { default: option.default }
  if (!option.isList) return { description: option.why, ...element, ...described }
  const bounds: Schema = { minItems: option.min ?? 0, maxItems: option.max }
  return { description: option.why, type: 'array', ...bounds, items: element, ...described }
}

function valueText(option: Option): string {
  const values = option.values ? ` ${option.values.join(', ')}` : ''
  const text = `${KIND_TEXTS[option.kind]}${values}`
  if (option.isList) return `list: ${text}${boundsText(option, String)}`
  if (option.kind === 'size') return `${text}${boundsText(option, formatSize)}`
  if (option.kind === 'duration') return `${text}${boundsText(option, formatDuration)}`
  return `${text}${boundsText(option, String)}`
}

function boundsText({ min, max }: Option, format: (value: number) => string): string {
  if (min === undefined && max === undefined) return ''
  if (min === undefined) return `; at most ${format(max!)}`
  if (max === undefined) return `; at least ${format(min)}`
  return `; ${format(min)} to ${format(max)}`
}

function defaultText(option: Option): string {
  const off = UNBUILT.find((entry) => entry.key === option.key)?.off
  const written = off ?? option.default
  if (written === undefined) return 'required'
  if (written === null) return 'no fixed default'
  if (Array.isArray(written)) return `default: \`[${written.join(', ')}]\``
  return `default: \`${written}\``
}
