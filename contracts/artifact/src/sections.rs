//! Sections of a wasm module, as far as replacing a custom one needs them.

use anyhow::{Result, bail, ensure};
use wasmparser::{Parser, Payload};

/// Id of custom sections, which are ids, lengths and contents (WebAssembly specification, section 5.5.2).
const CUSTOM: u8 = 0;

/// What is in the one custom section `name`.
pub fn contents<'a>(wasm: &'a [u8], name: &str) -> Result<&'a [u8]> {
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CustomSection(section) = payload?
            && section.name() == name
        {
            return Ok(section.data());
        }
    }
    bail!("no section is called {name}")
}

/// The same module with other contents in its one custom section `name`, which moves to the end.
pub fn replace(wasm: &[u8], name: &str, contents: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(wasm.len());
    let mut copied = 0;
    let mut found = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CustomSection(section) = payload?
            && section.name() == name
        {
            // The range begins after the header: the id, and the length in as many bytes as it takes.
            let range = section.range();
            let header = 1 + leb128(range.len()).len();
            out.extend_from_slice(&wasm[copied..range.start - header]);
            copied = range.end;
            found += 1;
        }
    }
    ensure!(found == 1, "{found} sections are called {name}, which should be one");
    out.extend_from_slice(&wasm[copied..]);
    let name_length = leb128(name.len());
    out.push(CUSTOM);
    out.extend(leb128(name_length.len() + name.len() + contents.len()));
    out.extend(name_length);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(contents);
    Ok(out)
}

/// Unsigned LEB128, shortest form.
fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module of two custom sections.
    fn module(first: &[u8], second: &[u8]) -> Vec<u8> {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        for (name, contents) in [("one", first), ("two", second)] {
            wasm.extend([0, (4 + contents.len()) as u8, 3]);
            wasm.extend(name.as_bytes());
            wasm.extend(contents);
        }
        wasm
    }

    #[test]
    fn replaces_only_the_named_section() {
        let replaced = replace(&module(b"first", b"second"), "one", &[7; 200]).unwrap();
        let sections: Vec<_> = Parser::new(0)
            .parse_all(&replaced)
            .filter_map(|payload| match payload.unwrap() {
                Payload::CustomSection(section) => Some((section.name().to_owned(), section.data().to_vec())),
                _ => None,
            })
            .collect();
        assert_eq!(sections, [("two".to_owned(), b"second".to_vec()), ("one".to_owned(), vec![7; 200])]);
    }

    #[test]
    fn a_missing_section_is_an_error() {
        assert!(replace(&module(b"", b""), "three", b"").is_err());
        assert!(replace(b"\0asm\x01\0\0\0\0", "one", b"").is_err());
    }

    #[test]
    fn lengths_are_encoded_as_wasm_does() {
        assert_eq!(leb128(0), [0]);
        assert_eq!(leb128(127), [127]);
        assert_eq!(leb128(128), [0x80, 1]);
        assert_eq!(leb128(624_485), [0xe5, 0x8e, 0x26]);
    }
}
