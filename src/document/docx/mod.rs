//! Word documents (Office Open XML) → blocks in reading order.
//!
//! Headings come from outline levels, from the title's style, and, where a document has neither, from short lines
//! that stand out by weight or size. List labels that Word only computes (`제1조`, `①`, `가.`) are part of the text.
//! Table rows repeat what is merged downwards. Text boxes, footnotes and endnotes follow the paragraph that holds
//! them. Pages are those Word last laid out, marked as approximate, and absent where the file has no breaks. Headers,
//! footers, comments and pictures are not read.

mod body;
mod numbering;
mod styles;

use anyhow::{Context as _, Result};

use self::body::{Context, Notes};
use self::numbering::Numbering;
use self::styles::Styles;
use super::package::{Package, Relationship, attribute, for_each_element};
use super::{Block, Budget, Document, Warning, prominence};

pub(super) fn parse(bytes: &[u8], budget: &Budget) -> Result<(Document, Vec<Warning>)> {
    let mut package = Package::open(bytes, budget)?;
    let main = main_part(&mut package)?;
    let xml = package
        .read_xml(&main)?
        .with_context(|| format!("damaged Word document: {main} is missing"))?;
    let links = package.relationships(&main).unwrap_or_default();
    let mut part = |kind: &str| -> String {
        let target = links.iter().find(|link| link.kind == kind);
        target
            .and_then(|link: &Relationship| package.read_xml(&link.target).ok().flatten())
            .unwrap_or_default()
    };
    let styles = Styles::parse(&part("styles"));
    let mut numbering = Numbering::parse(&part("numbering"));
    let notes_xml = [part("footnotes"), part("endnotes")];
    let mut warnings = Vec::new();
    let no_notes = Notes::new();
    let mut notes = Notes::new();
    for xml in &notes_xml {
        let mut context = Context {
            styles: &styles,
            numbering: &mut numbering,
            notes: &no_notes,
            budget,
        };
        notes.extend(body::read(xml, &mut context, &mut warnings)?.1);
    }
    let mut context = Context {
        styles: &styles,
        numbering: &mut numbering,
        notes: &notes,
        budget,
    };
    let (mut drafts, _) = body::read(&xml, &mut context, &mut warnings)?;
    prominence::mark_headings(&mut drafts);
    let title = drafts
        .iter()
        .find(|draft| draft.look.is_title)
        .map(|draft| draft.block.text.clone());
    let n_embedded = count_embedded(&xml);
    if n_embedded > 0 {
        warnings.push(Warning(format!(
            "{n_embedded} embedded documents were not read"
        )));
    }
    warnings.extend(package.take_warnings());
    let blocks: Vec<Block> = drafts.into_iter().map(|draft| draft.block).collect();
    Ok((Document { title, blocks }, warnings))
}

/// The main part may have any name: the package says which it is, and failing that its content types do.
fn main_part(package: &mut Package<'_>) -> Result<String> {
    let links = package.relationships("")?;
    let linked = links
        .into_iter()
        .find(|link| link.kind == "officeDocument")
        .map(|link| link.target)
        .filter(|target| package.contains(target));
    if let Some(target) = linked {
        return Ok(target);
    }
    let types = package.read_xml("[Content_Types].xml")?.unwrap_or_default();
    let mut main = None;
    for_each_element(&types, |element| {
        let kind = attribute(element, "ContentType").unwrap_or_default();
        if kind.contains("document.main") || kind.contains("macroEnabled.main") {
            main = attribute(element, "PartName");
        }
    });
    Ok(main.unwrap_or_else(|| "word/document.xml".to_owned()))
}

fn count_embedded(xml: &str) -> usize {
    xml.matches("<w:altChunk ").count()
}
