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

/// Reads a secret: the file's text without the line end that editors and `echo` leave.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    let text = String::from_utf8(read(path)?).map_err(|_| {
        format!(
            "{} is no text: a secret is text on one line",
            path.display()
        )
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
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
