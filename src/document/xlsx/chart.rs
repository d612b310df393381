//! The XML of a chart → its words: the titles of the chart and of its axes, the names of its series and categories.
//!
//! They are read as they were stored with the chart when it was last drawn; its numbers are left to the cells that they
//! come from.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use quick_xml::events::BytesStart;

use crate::document::Budget;
use crate::document::xml::{Visit, visit};

/// Series and categories that are named; a chart of more is a cloud of measurements.
const MAX_NAMES: usize = 100;

/// The words of a chart, a line for each title, one for the series and one for the categories.
///
/// # Errors
/// When the XML is damaged, or the time of the file is used up.
pub(super) fn words(xml: &str, budget: &Budget) -> Result<String> {
    let mut chart = Chart::default();
    if let Some(damage) = visit(xml, &mut chart, budget)? {
        bail!("{damage}");
    }
    let mut words = String::new();
    for title in &chart.titles {
        let title: Vec<&str> = title.split_whitespace().collect();
        if !title.is_empty() {
            writeln!(words, "{}", title.join(" "))?;
        }
    }
    for names in [&chart.series, &chart.categories] {
        if !names.is_empty() {
            writeln!(words, "{}", names.join(", "))?;
        }
    }
    Ok(words)
}

#[derive(Default)]
struct Chart {
    titles: Vec<String>,
    series: Vec<String>,
    categories: Vec<String>,
    reading: Reading,
    in_series: bool,
    /// The name or piece of a title that is open.
    text: Option<String>,
    /// Elements that are open within one that is left out, with that one.
    n_left_out: usize,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    #[default]
    Nothing,
    Title,
    Series,
    Category,
}

impl Visit for Chart {
    fn open(&mut self, element: &BytesStart<'_>) {
        if self.n_left_out > 0 {
            self.n_left_out += 1;
            return;
        }
        match element.local_name().as_ref() {
            // Labels of single values, and numbers.
            "dLbls" | "numRef" | "numLit" => self.n_left_out = 1,
            "title" => {
                self.titles.push(String::new());
                self.reading = Reading::Title;
            }
            "ser" => self.in_series = true,
            "tx" if self.in_series => self.reading = Reading::Series,
            "cat" => self.reading = Reading::Category,
            "t" | "v" if self.reading != Reading::Nothing => self.text = Some(String::new()),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        if self.n_left_out > 0 {
            self.n_left_out -= 1;
            return;
        }
        match name {
            "ser" => self.in_series = false,
            "title" | "cat" => self.reading = Reading::Nothing,
            "tx" if self.in_series => self.reading = Reading::Nothing,
            "p" | "br" => self.add_to_title(" "),
            "t" | "v" => {
                let text = self.text.take().unwrap_or_default();
                match self.reading {
                    Reading::Nothing => {}
                    Reading::Title => self.add_to_title(&text),
                    Reading::Series => add_name(&mut self.series, &text),
                    Reading::Category => add_name(&mut self.categories, &text),
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(open) = &mut self.text
            && self.n_left_out == 0
        {
            open.push_str(text);
        }
    }
}

impl Chart {
    fn add_to_title(&mut self, text: &str) {
        if let Some(title) = self.titles.last_mut()
            && self.reading == Reading::Title
        {
            title.push_str(text);
        }
    }
}

/// Every series tells the categories anew.
fn add_name(names: &mut Vec<String>, name: &str) {
    let name = name.trim();
    if names.len() < MAX_NAMES && !name.is_empty() && names.iter().all(|known| known != name) {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_series_and_categories_are_named() {
        let title = |words: &str| {
            format!(
                "<c:title><c:tx><c:rich><a:p><a:r><a:t>{words}</a:t></a:r></a:p></c:rich></c:tx></c:title>"
            )
        };
        let names = |names: &[&str]| -> String {
            let points = names
                .iter()
                .map(|name| format!("<c:pt><c:v>{name}</c:v></c:pt>"));
            format!(
                "<c:strRef><c:f>Sheet1!$A$1</c:f><c:strCache>{}</c:strCache></c:strRef>",
                points.collect::<String>()
            )
        };
        let series = |name: &str| {
            format!(
                "<c:ser><c:tx>{}</c:tx><c:dLbls><c:tx><a:t>31</a:t></c:tx></c:dLbls><c:cat>{}</c:cat>\
                 <c:val><c:numRef><c:numCache><c:pt><c:v>31</c:v></c:pt></c:numCache></c:numRef></c:val></c:ser>",
                names(&[name]),
                names(&["1월", "2월"])
            )
        };
        let xml = format!(
            "<c:chartSpace><c:chart>{}<c:plotArea><c:barChart>{}{}</c:barChart><c:catAx>{}</c:catAx></c:plotArea></c:chart></c:chartSpace>",
            title("부서별</a:t></a:r></a:p><a:p><a:r><a:t>휴직자 &amp; 복직자"),
            series("인사팀"),
            series("총무팀"),
            title("월")
        );
        let found = words(&xml, &Budget::standard()).unwrap();
        assert_eq!(
            found,
            "부서별 휴직자 & 복직자\n월\n인사팀, 총무팀\n1월, 2월\n"
        );
    }

    #[test]
    fn a_chart_without_words_has_none() {
        let check = |xml: &str| assert_eq!(words(xml, &Budget::standard()).unwrap(), "");
        check("<chartSpace><ser><tx/><cat><numRef><v>3</v></numRef></cat></ser></chartSpace>");
        check("");
        assert!(words("<a></b>", &Budget::standard()).is_err());
    }
}
