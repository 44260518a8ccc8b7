//! Files: read with a reason, written whole or not at all.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Only its owner: 0600.
    Private,
    /// Everybody: 0644, less what the process's umask takes away.
    Public,
}

/// Writes a file so that a reader sees all of it or what was there before: under another name first, in the mode that it is
/// to have.
pub(super) fn write(path: &Path, content: &[u8], mode: Mode) -> Result<(), String> {
    let fail = |error: io::Error| format!("cannot write {}: {error}", path.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()));
    let written = fill(&draft, content, mode).and_then(|()| fs::rename(&draft, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&draft);
        fail(error)
    })
}

fn fill(path: &Path, content: &[u8], mode: Mode) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        match mode {
            Mode::Private => 0o600,
            Mode::Public => 0o644,
        },
    );
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Reads text in UTF-8, without a byte order mark.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    text(read(path)?).map_err(|what| format!("{}: {what}", path.display()))
}

fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(UTF_16);
    }
    // UTF-16 without a byte order mark: every other byte of ASCII is NUL, which no text has.
    if bytes.contains(&0) {
        return Err(if bytes.len().is_multiple_of(2) && bytes.len() >= 2 {
            let odd = bytes.iter().skip(1).step_by(2).all(|byte| *byte == 0);
            let even = bytes.iter().step_by(2).all(|byte| *byte == 0);
            if odd || even { UTF_16 } else { BINARY }
        } else {
            BINARY
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| BINARY)?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

const UTF_16: &str = "this is text in UTF-16, and UTF-8 is needed: save the file as UTF-8 (iconv -f UTF-16 -t UTF-8)";
const BINARY: &str = "this is no text: text in UTF-8 is needed";

/// Reads a secret: one line of text in UTF-8. A byte order mark and white space around it, such as the line ends that editors
/// and `echo` leave, do not belong to it.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    let text = read_text(path)?;
    secret(&text)
        .map(str::to_owned)
        .map_err(|what| format!("{}: {what}", path.display()))
}

/// The secret in a file's text. No complaint repeats a part of it.
fn secret(text: &str) -> Result<&str, String> {
    let secret = text.trim();
    if secret.is_empty() {
        return Err(
            "the file is empty: a secret is text on one line (openssl rand -hex 32)".to_owned(),
        );
    }
    // The complaint about a key in PEM, of several lines, is more to the point.
    if secret.starts_with("-----BEGIN ") {
        return Ok(secret);
    }
    let lines = secret.lines().count();
    if lines > 1 || secret.contains('\r') {
        return Err(format!(
            "the secret has {} lines: a secret is text on one line",
            lines.max(2)
        ));
    }
    let odd = secret
        .char_indices()
        .find(|(_, c)| c.is_control() || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}'));
    match odd {
        Some((at, c)) => Err(format!(
            "the secret has the invisible character U+{:04X} at byte {at}: only what can be seen belongs to it",
            u32::from(c)
        )),
        None => Ok(secret),
    }
}

/// Takes a file or directory away from everybody but its owner.
pub(super) fn make_private(path: &Path) -> Result<(), String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let fail = |error: io::Error| format!("cannot make {} private: {error}", path.display());
        let now = fs::metadata(path).map_err(fail)?;
        let mode = if now.is_dir() { 0o700 } else { 0o600 };
        if now.permissions().mode() & 0o777 != mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fail)?;
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// 32 random bytes as 64 hexadecimal digits.
pub(super) fn random_secret() -> String {
    use std::fmt::Write as _;
    let bytes: [u8; 32] = rand::random();
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn white_space_and_a_byte_order_mark_are_no_part_of_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        for (before, after) in [
            ("", ""),
            ("", "\n"),
            ("", "\r\n"),
            ("", "\n\n\n"),
            ("\u{feff}", "\n"),
            ("  \t", " \r\n \r\n"),
            ("\n", "\u{a0}"),
        ] {
            fs::write(&path, format!("{before}{SECRET}{after}")).unwrap();
            let read = read_secret(&path);
            assert_eq!(read.as_deref(), Ok(SECRET), "{before:?} {after:?}");
        }
        fs::write(&path, "a pass phrase of several words, with spaces\n").unwrap();
        let read = read_secret(&path).unwrap();
        assert_eq!(read, "a pass phrase of several words, with spaces");
    }

    #[test]
    fn file_that_holds_no_secret_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let utf16 = |start: &[u8], to: fn(u16) -> [u8; 2]| {
            let units = SECRET.encode_utf16().flat_map(to);
            start.iter().copied().chain(units).collect::<Vec<u8>>()
        };
        for (bytes, wanted) in [
            (Vec::new(), "the file is empty"),
            (b" \r\n\n".to_vec(), "the file is empty"),
            (b"\xef\xbb\xbf\n".to_vec(), "the file is empty"),
            (format!("{SECRET}\n{SECRET}\n").into_bytes(), "has 2 lines"),
            (format!("{SECRET}\r{SECRET}").into_bytes(), "has 2 lines"),
            (utf16(b"\xff\xfe", u16::to_le_bytes), "UTF-16"),
            (utf16(b"\xfe\xff", u16::to_be_bytes), "UTF-16"),
            (utf16(b"", u16::to_le_bytes), "UTF-16"),
            (utf16(b"", u16::to_be_bytes), "UTF-16"),
            (format!("{SECRET}\0").into_bytes(), "no text"),
            (b"\xff\xffabc".to_vec(), "no text"),
            (format!("{SECRET}\u{7}x").into_bytes(), "U+0007 at byte 32"),
            (
                format!("{SECRET}\u{200b}").into_bytes(),
                "U+200B at byte 32",
            ),
        ] {
            fs::write(&path, &bytes).unwrap();
            let error = read_secret(&path).unwrap_err();
            assert!(error.contains(wanted), "{wanted}: {error}");
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(!error.contains(SECRET), "{error}");
        }
    }
}
