// The browser client of Tidings. `Client` connects, subscribes and publishes; everything else is what it takes and gives.

export type { Attendance } from './attendance.ts';
export {
  type Acknowledgement,
  Client,
  type ConnectedState,
  type Connecting,
  type Disconnected,
  type Idle,
  type Refused,
  type State,
} from './client.ts';
export { codes, type Retry, TidingsError } from './codes.ts';
export { Data, json, type Line, type Member, type Message, type Presence, type Publishable } from './message.ts';
export type { ClientOptions, HistoryOptions, PublishOptions, SubscribeOptions } from './options.ts';
export { type Position, type PositionParts, parsePosition } from './position.ts';
export type { History } from './requests.ts';
export type {
  BreakEvent,
  EndEvent,
  GapEvent,
  Publication,
  PublicationEvent,
  Subscription,
  SubscriptionEvent,
} from './subscription.ts';
export type { GetToken } from './tokens.ts';
export type { Dial, DialOptions, Kind, Transport } from './transport/transport.ts';
