//! Files: the configuration itself, and those that it names.

use super::*;

#[test]
fn path_of_a_file_is_relative_to_the_file() {
    let text = r#"
        [tls]
        chain = "cert.pem"
        key = "../keys/key.pem"
        [auth]
        jwks_file = "/etc/jwks.json"
        keys = [{ algorithm = "HS256", secret_file = "token.secret", id = "key" }]
        [http]
        api_key_file = "api.key"
    "#;
    let (directory, path) = file(text);
    let variables = env(&[("TIDINGS_HTTP__API_KEY_FILE", "mine.key")]);
    let settings = read::load(Some(path), &variables).unwrap().settings;
    let below = |name: &str| Some(directory.path().join(name));
    assert_eq!(settings.tls.chain, below("cert.pem"));
    assert_eq!(settings.tls.key, below("../keys/key.pem"));
    assert_eq!(settings.auth.jwks_file, Some("/etc/jwks.json".into()));
    assert_eq!(settings.auth.keys[0].secret_file, below("token.secret"));
    assert_eq!(settings.auth.keys[0].id.as_deref(), Some("key"));
    // What comes from the environment is not.
    assert_eq!(settings.http.unwrap().api_key_file, Some("mine.key".into()));
}

#[test]
fn every_key_that_names_a_file_is_rebased() {
    fn files<'a>(value: &'a toml::Value, name: &'a str, found: &mut Vec<&'a str>) {
        match value {
            toml::Value::Table(table) => {
                table
                    .iter()
                    .for_each(|(name, value)| files(value, name, found));
            }
            toml::Value::Array(items) => items.iter().for_each(|item| files(item, name, found)),
            toml::Value::String(text) if text == "file" => found.push(name),
            _ => {}
        }
    }
    // The specimen says "file" where a path is needed.
    let specimen = toml::Value::try_from(Settings::specimen()).unwrap();
    let mut found = Vec::new();
    files(&specimen, "", &mut found);
    found.sort_unstable();
    let mut known = read::PATHS.to_vec();
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn white_space_around_the_api_key_of_the_environment_does_not_matter() {
    let variables = [("TIDINGS_HTTP__API_KEY", " 0123456789abcdef\r\n")];
    let loaded = load("", &variables).unwrap();
    assert_eq!(loaded.api_key.as_deref(), Some("0123456789abcdef"));
}

#[test]
fn file_with_a_byte_order_mark_is_read_and_one_in_utf_16_is_named() {
    let text = "listen = \"127.0.0.1:2\"\r\n";
    let marked = load(&format!("\u{feff}{text}"), &[]).unwrap().settings;
    assert_eq!(marked.listen, "127.0.0.1:2".parse().ok());
    let (_directory, path) = file("");
    for (start, to) in [
        (&b"\xff\xfe"[..], u16::to_le_bytes as fn(u16) -> [u8; 2]),
        (b"\xfe\xff", u16::to_be_bytes),
        (b"", u16::to_le_bytes),
    ] {
        let units = text.encode_utf16().flat_map(to);
        fs::write(
            &path,
            start.iter().copied().chain(units).collect::<Vec<_>>(),
        )
        .unwrap();
        let problems = read::load(Some(path.clone()), &HashMap::new()).unwrap_err();
        assert!(problems[0].contains("UTF-16"), "{problems:?}");
        assert!(problems[0].contains("tidings.toml"), "{problems:?}");
    }
}
