/**
 * The guard against terminal injection, for everything that prints what others wrote: logs,
 * `observe`, tables, error messages. A file of its own because log.ts brings a logger along that
 * the commands do not need.
 */

/**
 * Text for a terminal: control characters, with which a name or another's error message could
 * move the cursor or set the title, become visible. ESC is ^[ and CR is \r as in Hubble's lines.
 */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (character) => {
    if (character === '\u001b') return '^['
    if (character === '\r') return '\\r'
    if (character === '\n') return '\\n'
    if (character === '\t') return '\\t'
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
}
