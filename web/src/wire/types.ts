// The numbers of PROTOCOL §8, and of §5.1.

export const HELLO = 0x01;
export const WELCOME = 0x02;
export const GO_AWAY = 0x03;
export const SUBSCRIBE = 0x10;
export const UNSUBSCRIBE = 0x11;
export const PUBLISH = 0x12;
export const PING = 0x13;
export const SUBSCRIBE_FROM = 0x14;
export const READ_HISTORY = 0x15;
export const PUBLISH_ONCE = 0x16;
export const REFRESH = 0x17;
export const PUBLISH_WITH = 0x18;
export const READ_PRESENCE = 0x19;
export const FAILED = 0x40;
export const SUBSCRIBED = 0x41;
export const UNSUBSCRIBED = 0x42;
export const PUBLISHED = 0x43;
export const PONG = 0x44;
export const HISTORY_PAGE = 0x45;
export const PUBLISHED_ONCE = 0x46;
export const REFRESHED = 0x47;
export const PRESENCE_PAGE = 0x48;
export const HEADER = 0x60;
export const PUBLICATION = 0x61;
export const LAGGED = 0x62;
export const END = 0x63;
export const SKIPPED = 0x64;
export const LANE = 0x65;
export const TURN = 0x66;
export const OWN = 0x67;

/** Where a stream comes from: a channel, or user code on the server. */
export const CHANNEL = 0;
export const ENDPOINT = 1;
