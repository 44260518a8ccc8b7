//! Takes the types out of the TypeScript in `web/`, for the server to serve it: no bundler, and no Node to build with.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "web")]
    web::build();
}

#[cfg(feature = "web")]
#[allow(clippy::unwrap_used, reason = "a build that fails says where")]
mod web {
    use std::{
        collections::hash_map::DefaultHasher,
        fmt::Write,
        fs,
        hash::{Hash, Hasher},
        path::{Path, PathBuf},
    };

    use oxc_allocator::Allocator;
    use oxc_codegen::{Codegen, CodegenOptions};
    use oxc_parser::Parser;
    use oxc_semantic::SemanticBuilder;
    use oxc_span::SourceType;
    use oxc_transformer::{
        RewriteExtensionsMode, TransformOptions, Transformer, TypeScriptOptions,
    };

    /// Each folder, and where it is served.
    const FOLDERS: [(&str, &str); 2] = [("web/src", "/sdk"), ("web/pages", "/pages")];

    pub(crate) fn build() {
        let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
        let mut table = "[\n".to_owned();
        for (folder, at) in FOLDERS {
            println!("cargo::rerun-if-changed={folder}");
            for path in files(Path::new(folder)) {
                let inside = path.strip_prefix(folder).unwrap().with_extension("");
                let name = inside.to_str().unwrap().replace('\\', "/");
                let (kind, extension, content) = served(&path);
                let mut hasher = DefaultHasher::new();
                content.hash(&mut hasher);
                let file = out.join(format!("{:016x}.{extension}", hasher.finish()));
                fs::write(&file, content).unwrap();
                let etag = format!("\"\\\"{:016x}\\\"\"", hasher.finish());
                writeln!(
                    table,
                    "    File {{ path: \"{at}/{name}.{extension}\", kind: \"{kind}\", etag: {etag}, content: include_bytes!({file:?}) }},"
                )
                .unwrap();
            }
        }
        fs::write(out.join("assets.rs"), table + "]\n").unwrap();
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let Ok(entries) = fs::read_dir(folder) else {
            return found;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else if path.extension().is_some_and(|extension| {
                ["ts", "html", "css", "svg"]
                    .iter()
                    .any(|known| extension == *known)
            }) {
                found.push(path);
            }
        }
        found.sort();
        found
    }

    /// Content type, extension and content of what a browser gets.
    fn served(path: &Path) -> (&'static str, &'static str, String) {
        let text = fs::read_to_string(path).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("ts") => ("text/javascript; charset=utf-8", "js", strip(path, &text)),
            Some("css") => ("text/css; charset=utf-8", "css", text),
            Some("svg") => ("image/svg+xml", "svg", text),
            _ => ("text/html; charset=utf-8", "html", text),
        }
    }

    /// The same program without types, comments and spare room.
    fn strip(path: &Path, text: &str) -> String {
        let allocator = Allocator::default();
        let parsed = Parser::new(&allocator, text, SourceType::ts()).parse();
        assert!(
            parsed.errors.is_empty(),
            "{}: {:?}",
            path.display(),
            parsed.errors
        );
        let mut program = parsed.program;
        let scoping = SemanticBuilder::new()
            .build(&program)
            .semantic
            .into_scoping();
        let options = TransformOptions {
            typescript: TypeScriptOptions {
                only_remove_type_imports: true,
                rewrite_import_extensions: Some(RewriteExtensionsMode::Rewrite),
                ..TypeScriptOptions::default()
            },
            ..TransformOptions::default()
        };
        let done =
            Transformer::new(&allocator, path, &options).build_with_scoping(scoping, &mut program);
        assert!(
            done.errors.is_empty(),
            "{}: {:?}",
            path.display(),
            done.errors
        );
        let code = Codegen::new()
            .with_options(CodegenOptions::minify())
            .with_scoping(Some(done.scoping))
            .build(&program)
            .code;
        // What is imported on demand is left as it was.
        let mut parts = code.split("import(");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |code, part| {
            let (name, rest) = part.split_once(')').unwrap();
            // With any quotes.
            let (path, quote) = name.split_at(name.len() - 1);
            let path = path
                .strip_suffix(".ts")
                .map_or_else(|| path.to_owned(), |path| format!("{path}.js"));
            format!("{code}import({path}{quote}){rest}")
        })
    }
}
