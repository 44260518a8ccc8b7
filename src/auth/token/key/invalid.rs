//! Reasons why a key is refused.

use super::super::Algorithm;

/// A key that cannot verify tokens, or not safely. No message contains key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// An HS256 secret that could be guessed. The number is its length in bytes.
    #[error("the HS256 secret has {0} bytes: 32 random bytes or more are needed")]
    SecretTooShort(usize),
    /// An HS256 secret that is the text of a key of another algorithm.
    #[error(
        "the HS256 secret is a PEM key: configure it for the algorithm that it was made for, such as ES256, EdDSA or RS256"
    )]
    SecretIsPem,
    /// Text that is no public key of this algorithm.
    #[error("this is no {0} public key: PEM with the label PUBLIC KEY is needed")]
    Pem(Algorithm),
    /// A public key of another kind than the algorithm takes.
    #[error("this is {found}: {algorithm} needs {}", algorithm.key_kind())]
    WrongKind {
        /// The algorithm that the key was given for.
        algorithm: Algorithm,
        /// The kind of the key.
        found: &'static str,
    },
    /// Several PEM blocks where one key is needed. The number is how many there are.
    #[error("this has {0} PEM blocks: one public key alone belongs here")]
    SeveralBlocks(usize),
    /// Something else than a public key.
    #[error(
        "this is {0}: only the public key belongs here (openssl pkey -pubout, openssl x509 -pubkey)"
    )]
    NotPublic(&'static str),
    /// Something else than a private key that can sign.
    #[error("this is no private key of {0} that can sign: unencrypted PEM (PKCS#8) is needed")]
    NotPrivate(Algorithm),
    /// A key whose numbers make no key of this algorithm.
    #[error("the {0} key is malformed: its numbers make no key")]
    Key(Algorithm),
    /// A member of a JSON Web Key with a value that cannot be used.
    #[error("its \"{name}\" {problem}")]
    Member {
        /// The member's name.
        name: &'static str,
        /// What is wrong with its value.
        problem: &'static str,
    },
    /// A JSON Web Key whose `alg` belongs to keys of another kind.
    #[error("its \"alg\" is {0}, which does not go with its \"kty\" and \"crv\"")]
    AlgorithmMismatch(String),
    /// An RSA key that is too weak, or larger than can be verified. The number is its size in bits.
    #[error("the RSA key has {0} bits: 2048 to 8192 are needed")]
    RsaSize(usize),
    /// Text that is no key set, and where.
    #[error("this is no JSON Web Key Set, an object with a list \"keys\": {0}")]
    Jwks(String),
    /// A bad key in a key set.
    #[error("key {index} of the key set, counted from 0: {reason}")]
    Jwk {
        /// Its place in the set, counted from 0.
        index: usize,
        /// What is wrong with it.
        reason: Box<Self>,
    },
    /// Nothing to verify a token with.
    #[error(
        "there is no key to verify tokens with: a secret (HS256), or an EC (P-256, P-384), Ed25519 or RSA public key is needed"
    )]
    NoKey,
    /// A key set of which no key can verify a token, with the reason of each key.
    #[error("no key of the key set can verify a token: {0}")]
    NoUsableKey(String),
    /// More keys than a token may be tried with.
    #[error("there are {0} keys: 64 are allowed")]
    TooManyKeys(usize),
}
