//! Reads the XML of a part as a stream: elements that open and close, and the text between them.

use anyhow::Result;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::Budget;
use super::package::entity;

/// How many events are read between two looks at the clock.
const EVENTS_PER_TIME_CHECK: usize = 4096;

/// What is told about a part, from its beginning to its end.
pub(super) trait Visit {
    /// An element opens.
    fn open(&mut self, element: &BytesStart<'_>);

    /// The element that opened last and is still open ends; its name is without its prefix.
    fn close(&mut self, name: &str);

    /// An element without anything in it.
    fn empty(&mut self, element: &BytesStart<'_>) {
        self.open(element);
        self.close(element.local_name().as_ref());
    }

    /// Text, entities resolved.
    fn text(&mut self, text: &str);

    /// Whether nothing more is wanted.
    fn is_full(&self) -> bool {
        false
    }
}

/// Reads a part to its end, or up to where it is damaged: then the answer says where and how.
///
/// # Errors
/// When the budget's time is used up.
pub(super) fn visit(
    xml: &str,
    visitor: &mut impl Visit,
    budget: &Budget,
) -> Result<Option<String>> {
    let mut reader = Reader::from_str(xml);
    let mut n_events = 0_usize;
    while !visitor.is_full() {
        n_events += 1;
        if n_events.is_multiple_of(EVENTS_PER_TIME_CHECK) {
            budget.check_time()?;
        }
        match reader.read_event() {
            Ok(Event::Eof) => break,
            Ok(Event::Start(element)) => visitor.open(&element),
            Ok(Event::Empty(element)) => visitor.empty(&element),
            Ok(Event::End(element)) => visitor.close(element.local_name().as_ref()),
            Ok(Event::Text(text)) => visitor.text(&text.xml10_content()),
            Ok(Event::CData(text)) => visitor.text(&text.xml10_content()),
            Ok(Event::GeneralRef(reference)) => visitor.text(&entity(&reference)),
            Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_)) => {}
            Err(cause) => {
                let position = reader.error_position();
                return Ok(Some(format!(
                    "damaged XML, read up to byte {position}: {cause}"
                )));
            }
        }
    }
    Ok(None)
}
