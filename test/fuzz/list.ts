/**
 * All fuzz targets by name: whatever parses bytes or text from outside has one. To add one, write
 * it beside wire.ts, list it here, and put some good inputs into corpus/.
 *
 * A corpus file in .txt is hexadecimal with blanks as liked; lines that begin with # say what it is.
 * Any other is the input as it stands.
 */
import { canary } from './canary.ts'
import { control } from './control.ts'
import { nflog } from './kernel.ts'
import { flow, lastPolicy, learned, syncFrames, syncMessage } from './peer.ts'
import { pipeline } from './pipeline.ts'
import type { FuzzTarget } from './target.ts'
import { clients, config, policy, resolvConf } from './text.ts'
import { wireAnswer, wireName, wireQuery, wireText } from './wire.ts'

export const TARGETS: Readonly<Record<string, FuzzTarget>> = {
  canary,
  clients,
  config,
  control,
  flow,
  'last-policy': lastPolicy,
  learned,
  nflog,
  pipeline,
  policy,
  'resolv-conf': resolvConf,
  'sync-frames': syncFrames,
  'sync-message': syncMessage,
  'wire-answer': wireAnswer,
  'wire-name': wireName,
  'wire-query': wireQuery,
  'wire-text': wireText,
}
