//! ZIP containers of office documents, read within a [`Budget`].
//!
//! A part is found by its name without regard to case or the direction of slashes, as office programs do. Sizes are
//! those really unpacked, never those declared, so that a bomb costs no more than the budget. A part that breaks off
//! is returned as far as it goes, with a warning.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use zip::ZipArchive;

use super::{Budget, Warning, encoding};

/// An open container.
pub(super) struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    index_by_name: HashMap<String, usize>,
    budget: &'a Budget,
    n_unpacked_bytes: usize,
    warnings: Vec<Warning>,
}

/// A link from one part of an Office Open XML package to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relationship {
    /// What the source part calls it: `rId3`.
    pub(super) id: String,
    /// Last segment of its type: `officeDocument`, `styles`, `slide`.
    pub(super) kind: String,
    /// Name of the part it points to, from the container's root.
    pub(super) target: String,
}

impl<'a> Package<'a> {
    /// # Errors
    /// When the container's directory cannot be read.
    pub(super) fn open(bytes: &'a [u8], budget: &'a Budget) -> Result<Package<'a>> {
        let archive = ZipArchive::new(Cursor::new(bytes)).context("damaged ZIP container")?;
        let index_by_name = archive
            .file_names_raw()
            .enumerate()
            .map(|(index, name)| (folded(&String::from_utf8_lossy(name)), index))
            .collect();
        Ok(Package {
            archive,
            index_by_name,
            budget,
            n_unpacked_bytes: 0,
            warnings: Vec::new(),
        })
    }

    /// The parts' names in lower case, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.index_by_name.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.index_by_name.contains_key(&folded(name))
    }

    /// What was damaged in the parts read so far.
    pub(super) fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// A part's bytes; `None` if there is no such part.
    ///
    /// # Errors
    /// When the part is encrypted, over budget, or yields nothing at all.
    pub(super) fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(&index) = self.index_by_name.get(&folded(name)) else {
            return Ok(None);
        };
        self.budget.check_time()?;
        let entry = self.archive.by_index(index);
        if let Err(zip::result::ZipError::UnsupportedArchive(
            zip::result::ZipError::PASSWORD_REQUIRED,
        )) = entry
        {
            bail!("{name}: encrypted with a password");
        }
        let entry = entry.with_context(|| name.to_owned())?;
        let n_left = self.budget.max_unpacked_bytes - self.n_unpacked_bytes;
        let n_allowed = n_left.min(self.budget.max_part_bytes);
        let mut bytes = Vec::new();
        let outcome = entry
            .take(u64::try_from(n_allowed)? + 1)
            .read_to_end(&mut bytes);
        if bytes.len() > n_allowed {
            bail!(
                "{name}: unpacks to more than {} MiB: refused",
                n_allowed >> 20
            );
        }
        self.n_unpacked_bytes += bytes.len();
        match outcome {
            Ok(_) => {}
            Err(cause) if bytes.is_empty() => {
                return Err(cause).with_context(|| format!("{name}: damaged"));
            }
            Err(cause) => self.warnings.push(Warning(format!(
                "{name}: damaged, read up to byte {}: {cause}",
                bytes.len()
            ))),
        }
        Ok(Some(bytes))
    }

    /// A part's XML as text, whatever Unicode encoding it was stored in; `None` if there is no such part.
    ///
    /// # Errors
    /// As [`Package::read`], and when the part is not text.
    pub(super) fn read_xml(&mut self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                encoding::decode(error.as_bytes())
                    .with_context(|| name.to_owned())?
                    .0
            }
        };
        Ok(Some(match text.strip_prefix('\u{FEFF}') {
            Some(rest) => rest.to_owned(),
            None => text,
        }))
    }

    /// The links of a part of an Office Open XML package; of the package itself for `""`.
    ///
    /// # Errors
    /// As [`Package::read`].
    pub(super) fn relationships(&mut self, part: &str) -> Result<Vec<Relationship>> {
        let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
        let slash = if folder.is_empty() { "" } else { "/" };
        let Some(xml) = self.read_xml(&format!("{folder}{slash}_rels/{file}.rels"))? else {
            return Ok(Vec::new());
        };
        let mut relationships = Vec::new();
        for_each_element(&xml, |element| {
            if element.local_name().as_ref() == "Relationship"
                && attribute(element, "TargetMode").as_deref() != Some("External")
            {
                let target = attribute(element, "Target").unwrap_or_default();
                let kind = attribute(element, "Type").unwrap_or_default();
                relationships.push(Relationship {
                    id: attribute(element, "Id").unwrap_or_default(),
                    kind: kind.rsplit('/').next().unwrap_or_default().to_owned(),
                    target: resolved(folder, &target),
                });
            }
        });
        Ok(relationships)
    }
}

/// Shows each element's start, as far as the XML is well formed.
pub(super) fn for_each_element(xml: &str, mut show: impl FnMut(&BytesStart<'_>)) {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(Event::Eof) | Err(_) => break,
            Ok(Event::Start(element) | Event::Empty(element)) => show(&element),
            Ok(_) => {}
        }
    }
}

/// The value of an element's attribute, by its name without a namespace prefix.
pub(super) fn attribute(element: &BytesStart<'_>, local_name: &str) -> Option<String> {
    element
        .attributes()
        .with_checks(false)
        .flatten()
        .find(|attribute| attribute.key.local_name().as_ref() == local_name)
        .and_then(|attribute| {
            let value = attribute.normalized_value(XmlVersion::Explicit1_0).ok()?;
            Some(value.into_owned())
        })
}

/// An attribute that is a number.
pub(super) fn number<N: FromStr>(element: &BytesStart<'_>, local_name: &str) -> Option<N> {
    attribute(element, local_name)?.trim().parse().ok()
}

/// An attribute that says yes or no; no where it is absent.
pub(super) fn flag(element: &BytesStart<'_>, local_name: &str) -> bool {
    matches!(
        attribute(element, local_name).as_deref(),
        Some("1" | "true")
    )
}

/// The text of an entity: a character by its number, or one of XML's five; empty for what a DTD would define.
pub(super) fn entity(reference: &BytesRef<'_>) -> String {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => character.to_string(),
        Ok(None) | Err(_) => resolve_predefined_entity(reference)
            .unwrap_or_default()
            .to_owned(),
    }
}

fn folded(name: &str) -> String {
    name.replace('\\', "/")
        .trim_start_matches('/')
        .to_lowercase()
}

/// A target relative to the folder of the part that names it; `/` begins at the root.
fn resolved(folder: &str, target: &str) -> String {
    let base = if target.starts_with('/') { "" } else { folder };
    let mut segments: Vec<&str> = Vec::new();
    for segment in base.split('/').chain(target.split('/')) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    segments.join("/")
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// A ZIP container with these parts.
    pub(in crate::document) fn zipped(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in parts {
            writer
                .start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn parts_are_found_whatever_their_case() {
        let bytes = zipped(&[("Word\\Document.xml", b"<a/>")]);
        let budget = Budget::standard();
        let mut package = Package::open(&bytes, &budget).unwrap();
        assert_eq!(package.read("word/document.xml").unwrap().unwrap(), b"<a/>");
        assert_eq!(package.read("missing").unwrap(), None);
    }

    #[test]
    fn a_bomb_is_refused() {
        let bytes = zipped(&[("a", &vec![0; 3 << 20]), ("b", &vec![0; 3 << 20])]);
        assert!(bytes.len() < 20_000);
        let mut budget = Budget::standard();
        budget.max_unpacked_bytes = 4 << 20;
        let mut package = Package::open(&bytes, &budget).unwrap();
        assert!(package.read("a").unwrap().is_some());
        let error = package.read("b").unwrap_err().to_string();
        assert_eq!(error, "b: unpacks to more than 1 MiB: refused");
    }

    #[test]
    fn a_part_that_breaks_off_is_read_up_to_there() {
        let text: String = (0..20_000_u32).map(|n| n.to_string()).collect();
        let mut bytes = zipped(&[("a", text.as_bytes())]);
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0xFF);
        let budget = Budget::standard();
        let mut package = Package::open(&bytes, &budget).unwrap();
        let read = package.read("a").unwrap().unwrap();
        assert_eq!(&read[..100], &text.as_bytes()[..100]);
        assert_eq!(package.take_warnings().len(), 1);
    }

    #[test]
    fn relationships_are_resolved() {
        let xml = br#"<Relationships xmlns="x"><Relationship Id="rId1" Type="http://x/officeDocument" Target="/word/haupt.xml"/></Relationships>"#;
        let part = br#"<r:Relationships xmlns:r="x"><r:Relationship Id="a" Type="http://x/styles" Target="../styles.xml"/><r:Relationship Id="b" Type="http://x/hyperlink" TargetMode="External" Target="http://x"/></r:Relationships>"#;
        let bytes = zipped(&[("_rels/.rels", xml), ("word/_rels/haupt.xml.rels", part)]);
        let budget = Budget::standard();
        let mut package = Package::open(&bytes, &budget).unwrap();
        let main = package.relationships("").unwrap();
        assert_eq!(main[0].target, "word/haupt.xml");
        assert_eq!(main[0].kind, "officeDocument");
        let links = package.relationships(&main[0].target).unwrap();
        assert_eq!(links.len(), 1);
        assert_eq!(links[0].target, "styles.xml");
    }
}
