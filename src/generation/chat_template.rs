//! Rules and question → the text a chat model was trained to answer, by the checkpoint's own Jinja template.
//!
//! Templates are run as transformers runs them. Where one has no place for rules (it refuses a system role, or drops
//! it without a word), the rules go before the question in the user's turn.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// A chat template, compiled.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles a template; `bos` and `eos` are the texts of the tokens that begin and end a text.
    ///
    /// # Errors
    /// When it is not a template.
    pub(crate) fn new(source: &str, bos: String, eos: String) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?;
        environment.set_syntax(syntax);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<String, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_function("strftime_now", |format: String| {
            let seconds = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs());
            strftime(&format, seconds)
        });
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned("chat", without_generation_marks(source))
            .map_err(|error| anyhow!("chat template: {error:#}"))?;
        Ok(ChatTemplate {
            environment,
            bos,
            eos,
        })
    }

    /// The prompt for one turn, up to where the model begins to answer. An empty `system` is no system turn.
    ///
    /// # Errors
    /// When the template fails with the rules in the user's turn, too.
    pub(crate) fn render(&self, system: &str, user: &str) -> Result<String> {
        let user_turn = message("user", user);
        if system.is_empty() {
            return self.render_messages(vec![user_turn]);
        }
        match self.render_messages(vec![message("system", system), user_turn]) {
            Ok(text) if text.contains(system.trim()) => Ok(text),
            Ok(_) | Err(_) => {
                let merged = format!("{system}\n\n{user}");
                self.render_messages(vec![message("user", &merged)])
            }
        }
    }

    fn render_messages(&self, messages: Vec<Value>) -> Result<String> {
        let template = self.environment.get_template("chat")?;
        template
            .render(context! {
                messages,
                add_generation_prompt => true,
                bos_token => self.bos.clone(),
                eos_token => self.eos.clone(),
                // Qwen 3 and its like think aloud unless told not to; an answer with citations is wanted.
                enable_thinking => false,
            })
            .map_err(|error| anyhow!("{error:#}"))
            .context("chat template")
    }
}

/// transformers' `tojson`: Python's spacing, and unlike Jinja's own without escapes for HTML, which models never saw.
fn to_json(value: &Value, settings: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = settings.get("indent")?;
    let separators: Option<Vec<String>> = settings.get("separators")?;
    let mut json = Vec::new();
    let written = match indent {
        Some(n_spaces) => {
            let indent = " ".repeat(n_spaces.min(64));
            let style = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut json, style))
        }
        None => {
            let separators = separators.and_then(|two| <[String; 2]>::try_from(two).ok());
            let [item, key] = separators.unwrap_or([", ".to_owned(), ": ".to_owned()]);
            let style = OneLine { item, key };
            value.serialize(&mut Serializer::with_formatter(&mut json, style))
        }
    };
    let fault = |error: String| minijinja::Error::new(ErrorKind::BadSerialization, error);
    written.map_err(|error| fault(error.to_string()))?;
    String::from_utf8(json).map_err(|error| fault(error.to_string()))
}

/// JSON on one line, with these between items and after keys.
struct OneLine {
    item: String,
    key: String,
}

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.begin_object_key(to, first)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first {
            return Ok(());
        }
        to.write_all(self.item.as_bytes())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(self.key.as_bytes())
    }
}

fn message(role: &str, content: &str) -> Value {
    context! { role, content }
}

/// transformers marks the model's own text for training with `{% generation %}`, which changes nothing in the text:
/// the marks become conditions that always hold, so that their white-space control still counts.
fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        text.push_str(before);
        text.push_str("{%");
        let Some((inside, after)) = tag.split_once("%}") else {
            rest = tag;
            break;
        };
        let name = inside.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        match name {
            "generation" => text.push_str(&inside.replace("generation", "if true")),
            "endgeneration" => text.push_str(&inside.replace("endgeneration", "endif")),
            _ => text.push_str(inside),
        }
        text.push_str("%}");
        rest = after;
    }
    text.push_str(rest);
    text
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The date and time (UTC) in the format codes that templates use: `%Y %m %d %b %B %H %M %S`; others stay as they are.
fn strftime(format: &str, seconds_since_1970: u64) -> String {
    let (year, month, day) = civil_date(seconds_since_1970 / 86_400);
    let second_of_day = seconds_since_1970 % 86_400;
    let name = usize::try_from(month - 1)
        .ok()
        .and_then(|month| MONTHS.get(month))
        .copied()
        .unwrap_or_default();
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('Y') => text.push_str(&year.to_string()),
            Some('m') => text.push_str(&format!("{month:02}")),
            Some('d') => text.push_str(&format!("{day:02}")),
            Some('B') => text.push_str(name),
            Some('b') => text.extend(name.chars().take(3)),
            Some('H') => text.push_str(&format!("{:02}", second_of_day / 3600)),
            Some('M') => text.push_str(&format!("{:02}", second_of_day / 60 % 60)),
            Some('S') => text.push_str(&format!("{:02}", second_of_day % 60)),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    text
}

/// Year, month and day of the Gregorian calendar. Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`, for days from 1970 on.
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> String {
        let template = ChatTemplate::new(template, "<s>".to_owned(), "</s>".to_owned()).unwrap();
        template.render("규칙", "질문").unwrap()
    }

    #[test]
    fn a_template_renders_as_jinja2_does() {
        let llama3 = "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = \
            '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' \
            %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{{ \
            '<|start_header_id|>assistant<|end_header_id|>\n\n' }}";
        assert_eq!(
            render(llama3),
            "<s><|start_header_id|>system<|end_header_id|>\n\n규칙<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
             질문<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        );
        let python = "{%- for m in messages -%}\n  {{ m.role.upper() + m['content'].strip() }}\n{%- endfor %}";
        assert_eq!(render(python), "SYSTEM규칙USER질문");
    }

    #[test]
    fn what_published_templates_use_renders_as_in_jinja2() {
        let path = std::path::Path::new("fixtures/models/chat_templates.json");
        let text = crate::fs::read_to_string(path).unwrap();
        let templates: serde_json::Value = serde_json::from_str(&text).unwrap();
        for template in templates.as_array().unwrap() {
            let name = template["name"].as_str().unwrap();
            let source = template["template"].as_str().unwrap();
            let compiled = ChatTemplate::new(source, "<s>".to_owned(), "</s>".to_owned()).unwrap();
            for case in template["cases"].as_array().unwrap() {
                let messages = case["messages"].as_array().unwrap().iter();
                let messages = messages
                    .map(|m| message(m["role"].as_str().unwrap(), m["content"].as_str().unwrap()));
                let rendered = compiled.render_messages(messages.collect());
                // None: the template refuses.
                assert_eq!(
                    rendered.as_deref().ok(),
                    case["rendered"].as_str(),
                    "{name}: {rendered:?}"
                );
            }
        }
    }

    #[test]
    fn the_fixtures_templates_render_as_the_reference_does() {
        for (folder, expected) in crate::generation::llama::tests::fixtures() {
            let config = std::fs::read_to_string(folder.join("tokenizer_config.json")).unwrap();
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            let text = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
            let template =
                ChatTemplate::new(&text("chat_template"), text("bos_token"), text("eos_token"));
            let template = template.unwrap();
            let chat = &expected["chat"];
            let messages = chat["rendered_messages"].as_array().unwrap().iter();
            let messages = messages
                .map(|m| message(m["role"].as_str().unwrap(), m["content"].as_str().unwrap()));
            let rendered = template.render_messages(messages.collect()).unwrap();
            assert_eq!(rendered, chat["rendered"].as_str().unwrap());
            let system = message("system", "규칙");
            let refused = template
                .render_messages(vec![system, message("user", "질문")])
                .is_err();
            assert_eq!(Some(refused), chat["system_refused"].as_bool());
            let merged = template.render("규칙", "질문").unwrap();
            assert!(merged.contains("규칙") && merged.contains("질문"));
        }
    }

    #[test]
    fn rules_that_have_no_place_of_their_own_go_before_the_question() {
        let refusing = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not \
            supported') }}{% endif %}[INST] {{ m.content }} [/INST]{% endfor %}";
        assert_eq!(render(refusing), "[INST] 규칙\n\n질문 [/INST]");
        let dropping = "{% for m in messages if m.role == 'user' %}Q: {{ m.content }}{% endfor %}";
        assert_eq!(render(dropping), "Q: 규칙\n\n질문");
    }

    #[test]
    fn training_marks_change_nothing() {
        let marked = "{% for m in messages %}\n    {%- generation -%}\n  {{ m.content }}\n  {%- endgeneration %}{% endfor %}";
        assert_eq!(render(marked), "규칙질문");
    }

    #[test]
    fn a_broken_template_is_an_error() {
        let error = ChatTemplate::new("{% for %}", String::new(), String::new()).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("chat template: "),
            "{error:#}"
        );
    }

    #[test]
    fn dates_follow_the_calendar() {
        let check = |seconds, expected: &str| {
            assert_eq!(strftime("%d %b %Y %B %m %H:%M:%S %q", seconds), expected);
        };
        check(0, "01 Jan 1970 January 01 00:00:00 %q");
        check(951_782_399, "28 Feb 2000 February 02 23:59:59 %q");
        check(951_782_400, "29 Feb 2000 February 02 00:00:00 %q");
        check(1_735_689_599, "31 Dec 2024 December 12 23:59:59 %q");
    }
}
