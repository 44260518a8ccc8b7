// What this client holds at most, and how long it waits: in bytes and in ms.

/** Longest frame that is taken from the server. */
export const MAX_FRAME = 16 << 20;
/** Longest header of a stream, and the time that it may take; the stream is given up otherwise. */
export const HEADER_BYTES = 4096;
export const HEADER_TIME = 10_000;

/** Most requests of user code that wait, and most bytes of theirs. */
export const REQUESTS = 16_384;
export const REQUEST_BYTES = 16 << 20;
/** Bytes of requests that wait to be written; above it no further request is taken. */
export const OUTGOING = 256 << 10;
/** Most requests that are not answered. */
export const PENDING = 100_000;
/** Most publications of a page of history (PROTOCOL §4.11). */
export const PAGE = 256;

/** Most lanes of a connection: a server has one for each priority. */
export const LANES = 8;
/** Most bytes of a lane's part that wait for their reader, but for a single frame that is larger. */
export const PART_BYTES = 256 << 10;
/** The same for all parts of a lane together. */
export const LANE_BYTES = 16 << 20;
/** Most parts of a lane that are read, or wait to be. */
export const PARTS = 65_536;
/** What a frame that waits takes beside its bytes, about. */
export const FRAME_COST = 64;

/** Datagrams that wait for their reader; of more the oldest go. Each is as large as a packet. */
export const INBOX = 64;
/** Datagrams of subscriptions whose streams have not arrived; of more the oldest go. */
export const EARLY = 64;
/** A reader that sleeps through more connections than this keeps the first stream and the latest ones. */
export const FEEDS = 4;
/** Events that a subscription has not read of a stream that it shares; of more the older become one `lagged`. */
export const READER_EVENTS = 256;
/** Most subscriptions that are remembered as given up, in case that their streams arrive later. */
export const ORPHANS = 4096;

/** How long after a stream was cut off its connection is taken to live on. */
export const CUT = 1_000;
/** How long the end of a connection may come after the end of its control stream. */
export const CLOSE = 5_000;

/** How often to look whether the server is there. */
export const LOOK = 1_000;
/** Longest time that nothing is asked (PROTOCOL §2: 20 s). */
export const IDLE = 10_000;
/** How often one that does not answer is asked: QUIC itself repeats what is lost after ever longer pauses. */
export const AGAIN = 2_000;
/** How long an answer may take, when nothing else is heard either. */
export const ANSWER = 5_000;
/** A connection is busy that had something for so many looks one after the other. */
export const STREAK = 3;

/** Almost the most that `setTimeout` takes. */
export const LONGEST = 2e9;
/** A token is not taken that ends sooner than this, and none is replaced sooner. */
export const LITTLE = 1_000;

/** How long the transport that worked is tried first. */
export const MEMORY = 600_000;
/** Most origins of which that is kept in mind. */
export const ORIGINS = 16;
