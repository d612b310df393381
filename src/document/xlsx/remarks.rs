//! What stands on a sheet beside its cells → [`Remark`]s: text boxes and other shapes with text, diagrams (SmartArt), the
//! words of charts, comments and the threads that newer programs make of them.
//!
//! A shape's cell is the one under its upper left corner. Hidden shapes, pictures and form controls of the old kind (VML)
//! are left out, and so is the copy of a thread that is stored as a comment for older programs.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail};
use quick_xml::events::BytesStart;

use super::binary::{self, SheetLink};
use super::chart;
use crate::document::Budget;
use crate::document::package::{Package, attribute, flag, for_each_element};
use crate::document::sheet::Remark;
use crate::document::xml::{Visit, visit};

/// Name of each sheet → the part that holds it.
pub(super) fn sheet_parts(package: &mut Package<'_>) -> Result<HashMap<String, String>> {
    let main = package
        .relationships("")?
        .into_iter()
        .find(|link| link.kind == "officeDocument")
        .map_or_else(|| "xl/workbook.xml".to_owned(), |link| link.target);
    let links = package.relationships(&main)?;
    let mut sheets = Vec::new();
    if is_binary(&main) {
        sheets = binary::sheets(&package.read(&main)?.unwrap_or_default());
    } else {
        let xml = package.read_xml(&main)?.unwrap_or_default();
        for_each_element(&xml, |element| {
            if element.local_name().as_ref() == "sheet"
                && let (Some(name), Some(id)) =
                    (attribute(element, "name"), attribute(element, "id"))
            {
                sheets.push(SheetLink { name, id });
            }
        });
    }
    let with_part = sheets.into_iter().filter_map(|sheet| {
        let link = links.iter().find(|link| link.id == sheet.id)?;
        Some((sheet.name, link.target.clone()))
    });
    Ok(with_part.collect())
}

/// Whether a part of an XLSB workbook is one of those that are no XML.
fn is_binary(part: &str) -> bool {
    part.to_lowercase().ends_with(".bin")
}

/// The remarks of a sheet, by its part.
///
/// # Errors
/// When a part that is named cannot be unpacked, its XML is damaged, or the time of the file is used up.
pub(super) fn read(package: &mut Package<'_>, part: &str, budget: &Budget) -> Result<Vec<Remark>> {
    let links = package.relationships(part)?;
    let mut read_all = |kind: &str| -> Result<Remarks> {
        let mut remarks = Remarks::default();
        for link in links.iter().filter(|link| link.kind == kind) {
            if is_binary(&link.target) {
                let part = package.read(&link.target)?.unwrap_or_default();
                remarks.done.extend(binary::comments(&part));
                continue;
            }
            let xml = package.read_xml(&link.target)?.unwrap_or_default();
            remarks.read(&xml, budget)?;
            let drawings = std::mem::take(&mut remarks.drawings);
            if drawings.is_empty() {
                continue;
            }
            let links = package.relationships(&link.target)?;
            for drawing in drawings {
                let Some(link) = links.iter().find(|link| link.id == drawing.id) else {
                    continue;
                };
                let xml = package.read_xml(&link.target)?.unwrap_or_default();
                remarks.cell = drawing.cell;
                if drawing.is_chart {
                    remarks.text = Some(chart::words(&xml, budget)?);
                    remarks.end_remark();
                } else {
                    remarks.read(&xml, budget)?;
                }
            }
        }
        Ok(remarks)
    };
    let mut remarks = read_all("drawing")?.done;
    let threads = read_all("threadedComment")?.done;
    let answered: HashSet<_> = threads.iter().map(|remark| remark.cell).collect();
    let comments = read_all("comments")?.done.into_iter();
    remarks.extend(comments.filter(|comment| !answered.contains(&comment.cell)));
    remarks.extend(threads);
    Ok(remarks)
}

/// The remarks of one part, read as a stream.
#[derive(Default)]
struct Remarks {
    done: Vec<Remark>,
    /// Diagrams and charts, which are parts of their own.
    drawings: Vec<Drawing>,
    /// Row and column of the shape or comment that is open.
    cell: Option<(u32, u32)>,
    /// Its text, while it is open.
    text: Option<String>,
    /// Whether the upper left corner of a shape is being told.
    in_corner: bool,
    /// What the text that comes next is.
    role: Role,
    depth: usize,
    /// The depth of an element whose content is left out, while it is open.
    left_out: Option<usize>,
}

/// A drawing with a part of its own.
struct Drawing {
    /// The link to the part.
    id: String,
    cell: Option<(u32, u32)>,
    is_chart: bool,
}

#[derive(Default)]
enum Role {
    Text,
    Row,
    Column,
    #[default]
    Other,
}

impl Visit for Remarks {
    fn open(&mut self, element: &BytesStart<'_>) {
        self.depth += 1;
        if self.left_out.is_some() {
            return;
        }
        match element.local_name().as_ref() {
            "oneCellAnchor" | "twoCellAnchor" | "absoluteAnchor" => self.cell = None,
            "from" => self.in_corner = true,
            "row" if self.in_corner => self.role = Role::Row,
            "col" if self.in_corner => self.role = Role::Column,
            "comment" | "threadedComment" => {
                self.cell = attribute(element, "ref").and_then(|name| cell_of(&name));
                self.text = Some(String::new());
            }
            "txBody" | "pt" => self.text = Some(String::new()),
            "t" | "text" => self.role = Role::Text,
            "p" => self.role = Role::Other,
            "br" => self.add("\n"),
            // A shape's properties stand two levels below it.
            "cNvPr" if flag(element, "hidden") => self.left_out = self.depth.checked_sub(2),
            name @ ("relIds" | "chart") => {
                let is_chart = name == "chart";
                let id = attribute(element, if is_chart { "id" } else { "dm" });
                self.drawings.push(Drawing {
                    id: id.unwrap_or_default(),
                    cell: self.cell,
                    is_chart,
                });
            }
            // What older programs show instead; where a comment's box stands; how a word is pronounced.
            "Fallback" | "commentPr" | "rPh" => self.left_out = Some(self.depth),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        let depth = self.depth;
        self.depth = depth.saturating_sub(1);
        if let Some(left_out) = self.left_out {
            if left_out >= depth {
                self.left_out = None;
            }
            return;
        }
        match name {
            "from" => self.in_corner = false,
            "row" | "col" | "t" | "text" => self.role = Role::Other,
            "p" => self.add("\n"),
            "comment" | "threadedComment" | "txBody" | "pt" => self.end_remark(),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.left_out.is_some() {
            return;
        }
        let number = || text.trim().parse().unwrap_or(0);
        match self.role {
            Role::Text => self.add(text),
            Role::Row => self.cell.get_or_insert_default().0 = number(),
            Role::Column => self.cell.get_or_insert_default().1 = number(),
            Role::Other => {}
        }
    }
}

impl Remarks {
    fn read(&mut self, xml: &str, budget: &Budget) -> Result<()> {
        (self.depth, self.left_out) = (0, None);
        match visit(xml, self, budget)? {
            Some(damage) => bail!("{damage}"),
            None => Ok(()),
        }
    }

    fn end_remark(&mut self) {
        let text = self.text.take().unwrap_or_default();
        if !text.trim().is_empty() {
            let cell = self.cell;
            self.done.push(Remark { cell, text });
        }
    }

    fn add(&mut self, text: &str) {
        if let Some(open) = &mut self.text {
            open.push_str(text);
        }
    }
}

/// Row and column, from 0, of a cell that is named as in a formula: `C12`.
fn cell_of(name: &str) -> Option<(u32, u32)> {
    let n_letters = name.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (letters, digits) = name.split_at_checked(n_letters)?;
    let column = letters.bytes().try_fold(0_u32, |column, letter| {
        let digit = u32::from(letter.to_ascii_uppercase() - b'A') + 1;
        column.checked_mul(26)?.checked_add(digit)
    })?;
    let row: u32 = digits.parse().ok()?;
    Some((row.checked_sub(1)?, column.checked_sub(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::package::tests::zipped;

    fn found(xml: &str) -> Vec<(Option<(u32, u32)>, String)> {
        let mut remarks = Remarks::default();
        remarks.read(xml, &Budget::standard()).unwrap();
        let pair = |remark: Remark| (remark.cell, remark.text.trim().to_owned());
        remarks.done.into_iter().map(pair).collect()
    }

    fn check(xml: &str, expected: &[(Option<(u32, u32)>, &str)]) {
        let found = found(xml);
        let found: Vec<_> = found.iter().map(|(cell, text)| (*cell, &**text)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn shapes_stand_at_the_cell_under_their_corner() {
        let shape = |properties: &str, text: &str| {
            format!(
                "<sp><nvSpPr><cNvPr {properties}/></nvSpPr><txBody><p><r><t>{text}</t></r></p></txBody></sp>"
            )
        };
        let corner = "<from><col>4</col><colOff>9</colOff><row>1</row></from><to><col>7</col><row>9</row></to>";
        let hidden = shape("hidden='1'", "숨김");
        let shown = shape("", "연차 &amp; 병가");
        let (second, third) = (shape("", "둘"), shape("", "셋"));
        let xml = format!(
            "<wsDr><twoCellAnchor>{corner}{hidden}<grpSp>{shown}{second}</grpSp></twoCellAnchor><absoluteAnchor>{third}</absoluteAnchor></wsDr>"
        );
        check(
            &xml,
            &[
                (Some((1, 4)), "연차 & 병가"),
                (Some((1, 4)), "둘"),
                (None, "셋"),
            ],
        );
        check(
            &format!("<grpSp><nvGrpSpPr><cNvPr hidden='1'/></nvGrpSpPr>{shown}</grpSp>"),
            &[],
        );
        check(
            &format!(
                "<AlternateContent><Choice>{second}</Choice><Fallback>{third}</Fallback></AlternateContent>"
            ),
            &[(None, "둘")],
        );
        let lines = "<txBody> <p> <r> <t>한</t> </r> <r><t> 줄</t></r> </p> <p><r><t>또</t></r><br/><r><t>또</t></r></p></txBody>";
        check(lines, &[(None, "한 줄\n또\n또")]);
    }

    #[test]
    fn comments_stand_at_the_cell_they_name() {
        let anchor =
            "<commentPr><anchor><from><col>9</col><row>9</row></from></anchor></commentPr>";
        let xml = format!(
            "<comments><authors><author>홍길동</author></authors><commentList><comment ref='AB12'><text><r><t>병가 </t></r><r><t>포함</t></r><rPh><t>よみ</t></rPh></text>{anchor}</comment><comment ref='?'><text><t>둘</t></text></comment></commentList></comments>"
        );
        check(&xml, &[(Some((11, 27)), "병가 포함"), (None, "둘")]);
    }

    #[test]
    fn a_cell_has_its_name() {
        let check = |name: &str, expected: Option<(u32, u32)>| assert_eq!(cell_of(name), expected);
        check("A1", Some((0, 0)));
        check("XFD1048576", Some((1_048_575, 16_383)));
        check("b2", Some((1, 1)));
        for name in ["", "A", "1", "A0", "A1:B2", "가1", "AAAAAAAAAAAA1"] {
            check(name, None);
        }
    }

    #[test]
    fn the_parts_of_a_sheet_are_found_by_its_links() {
        let links = |links: &str| format!("<Relationships>{links}</Relationships>");
        let link = |id: &str, kind: &str, target: &str| {
            format!("<Relationship Id='{id}' Type='x/{kind}' Target='{target}'/>")
        };
        let text = |text: &str| format!("<p><r><t>{text}</t></r></p>");
        let of_package = links(&link("r1", "officeDocument", "xl/main.xml"));
        let of_main = links(&link("r7", "worksheet", "worksheets/a.xml"));
        let of_sheet = links(
            &[
                link("r1", "drawing", "../drawings/d.xml"),
                link("r2", "comments", "../c.xml"),
                link("r3", "threadedComment", "../t.xml"),
            ]
            .concat(),
        );
        let of_drawing = links(
            &[
                link("r5", "diagramData", "../diagrams/data.xml"),
                link("r6", "chart", "../charts/chart1.xml"),
            ]
            .concat(),
        );
        let drawing = "<wsDr><oneCellAnchor><from><col>2</col><row>5</row></from><graphicFrame><relIds xmlns:r='r' r:dm='r5'/></graphicFrame></oneCellAnchor><oneCellAnchor><from><col>3</col><row>7</row></from><graphicFrame><chart xmlns:r='r' r:id='r6'/></graphicFrame></oneCellAnchor></wsDr>";
        let chart = "<chartSpace><title><t>추이</t></title></chartSpace>";
        let diagram = format!(
            "<dataModel><pt><t>{}</t></pt><pt><t>{}</t></pt></dataModel>",
            text("신청"),
            text("승인")
        );
        let parts: [(&str, &str); 8] = [
            ("_rels/.rels", &of_package),
            (
                "xl/main.xml",
                "<workbook><sheets><sheet name='휴&#xAC00;' sheetId='1' r:id='r7'/></sheets></workbook>",
            ),
            ("xl/_rels/main.xml.rels", &of_main),
            ("xl/worksheets/_rels/a.xml.rels", &of_sheet),
            ("xl/drawings/d.xml", drawing),
            ("xl/drawings/_rels/d.xml.rels", &of_drawing),
            ("xl/diagrams/data.xml", &diagram),
            (
                "xl/c.xml",
                "<comments><comment ref='A1'><text><t>[스레드] 옛 판</t></text></comment><comment ref='A2'><text><t>메모</t></text></comment></comments>",
            ),
        ];
        let thread = "<ThreadedComments><threadedComment ref='A1'><text>질문</text></threadedComment><threadedComment ref='A1'><text>답</text></threadedComment></ThreadedComments>";
        let mut parts = parts.map(|(name, xml)| (name, xml.as_bytes())).to_vec();
        parts.push(("xl/t.xml", thread.as_bytes()));
        parts.push(("xl/charts/chart1.xml", chart.as_bytes()));
        let bytes = zipped(&parts);
        let budget = Budget::standard();
        let mut package = Package::open(&bytes, &budget).unwrap();
        let sheets = sheet_parts(&mut package).unwrap();
        let remarks = read(&mut package, &sheets["휴가"], &budget).unwrap();
        let found: Vec<_> = remarks.iter().map(|it| (it.cell, it.text.trim())).collect();
        let expected = [
            (Some((5, 2)), "신청"),
            (Some((5, 2)), "승인"),
            (Some((7, 3)), "추이"),
            (Some((1, 0)), "메모"),
            (Some((0, 0)), "질문"),
            (Some((0, 0)), "답"),
        ];
        assert_eq!(found, expected);
    }
}
