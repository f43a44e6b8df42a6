//! Templates in the styles that real models use.

use super::*;
use std::time::Duration;

fn conversation() -> Vec<Message> {
    [("system", " Be brief. "), ("user", "Hi <b>"), ("assistant", "Hello!"), ("user", "Bye")]
        .map(|(role, content)| Message { role: role.into(), content: content.into() })
        .to_vec()
}

#[track_caller]
fn check(template: &str, expected: &str) {
    let options = ChatOptions {
        bos_token: "<s>",
        eos_token: "</s>",
        add_generation_prompt: true,
        now: Some(UNIX_EPOCH + Duration::from_secs(1_709_210_096)),
    };
    assert_eq!(render(Some(template), &conversation(), options).as_deref(), Ok(expected));
}

#[test]
fn chatml() {
    check(
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
         message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}\
         {{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nHi <b><|im_end|>\n\
         <|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n\
         <|im_start|>assistant\n",
    );
}

#[test]
fn roles_in_turn_with_a_system_prefix() {
    check(
        "{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] | trim + '\n\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate') }}
    {%- endif -%}
    {{ '[' + message['role'] + ']' + (first if loop.first else '') + message['content'].strip() }}
{%- endfor -%}
{{ eos_token }}",
        "<s>[user]Be brief.\n\nHi <b>[assistant]Hello![user]Bye</s>",
    );
}

#[test]
fn python_methods_and_json() {
    check(
        "{{ messages[1].content.split(' ')[0] }} {{ 'abc'.startswith('a') }} \
         {% for key, value in {'a': 1}.items() %}{{ key }}={{ value }}{% endfor %} \
         {{ {'a': [1, '<é>'], 'b': none} | tojson }} {{ messages[0].get('name', 'none') }}",
        "Hi True a=1 {\"a\": [1, \"<é>\"], \"b\": null} none",
    );
}

#[test]
fn namespaces_macros_and_loop_controls() {
    check(
        "{% macro tag(m) %}<{{ m.role | upper }}>{% endmacro %}\
         {% set ns = namespace(n=0) %}\
         {% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}\
         {% set ns.n = ns.n + 1 %}{{ tag(m) }}{% endfor %}{{ ns.n }}",
        "<USER><ASSISTANT><USER>3",
    );
}

#[test]
fn blocks_are_trimmed() {
    check("{% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb");
}

#[test]
fn dates() {
    check("{{ strftime_now('%d %b %Y, %A %H:%M:%S') }}", "29 Feb 2024, Thursday 12:34:56");
    for (days, date) in [(0, (1970, 1, 1)), (10_956, (1999, 12, 31)), (11_016, (2000, 2, 29))] {
        assert_eq!(civil_date(days), date);
    }
}

#[test]
fn failures_say_what_failed() {
    let fail = |template| {
        render(template, &conversation(), ChatOptions::default()).map_err(|error| error.to_string())
    };
    let rejected = fail(Some("{{ raise_exception('no system role') }}")).unwrap_err();
    assert_eq!(rejected, "the model's chat template rejects the conversation: no system role");
    assert!(fail(None).unwrap_err().contains("no chat template"));
    assert!(fail(Some("{% for %}")).unwrap_err().contains("cannot be rendered"));
    assert!(fail(Some("{{ strftime_now('%Q') }}")).is_err());
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    assert!(fail(Some(endless)).unwrap_err().contains("does not end"));
}
