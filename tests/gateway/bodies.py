"""Bodies of requests that are wrong, and the words of which the refusal must have each."""

HI = b'"messages":[{"role":"user","content":"hi"}]'
START = b'{"model":"sandbox",' + HI  # a whole request but for its last brace


def nested(depth: int, where: str) -> bytes:
    """A whole request with so many levels in it."""
    deep = b"[" * depth + b"]" * depth
    match where:
        case "content":
            return (
                b'{"model":"sandbox","messages":[{"role":"user","content":[{"type":"text","text":"a","x":%b}]}]}' % deep
            )
        case "tools":
            return START + b',"tools":[{"type":"function","x":%b}]}' % deep
        case _:
            return START + b',"%b":{"x":%b}}' % (where.encode(), deep)


BODIES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "nothing at all": (b"", ("valid JSON", "Send one JSON object")),
    "cut off": (START, ("valid JSON", "Send one JSON object")),
    "two objects": (START + b"}{}", ("valid JSON", "Send one JSON object")),
    "not JSON": (b"model=sandbox", ("valid JSON", "Send one JSON object")),
    "not a number": (START + b',"temperature":NaN}', ("valid JSON", "Send one JSON object")),
    "not UTF-8": (b'{"model":"sandbox","messages":[{"role":"user","content":"\xff"}]}', ("valid JSON", "UTF-8")),
    "a lone surrogate": (b'{"model":"sandbox","messages":[{"role":"user","content":"\\ud800"}]}', ("valid JSON",)),
    "a second half alone": (b'{"model":"sandbox","messages":[{"role":"user","content":"\\udc00"}]}', ("surrogate",)),
    "a surrogate in an ignored field": (START + b',"user":"\\ud800"}', ("valid JSON", "Send one JSON object")),
    "NUL in a message": (b'{"model":"sandbox","messages":[{"role":"user","content":"a\\u0000b"}]}', ("NUL", "Take it")),
    "NUL in the model": (b'{"model":"sandbox\\u0000",' + HI + b"}", ("NUL", "Take it out")),
    "NUL in a name": (START + b',"metadata":{"a\\u0000":"b"}}', ("NUL", "Take it out")),
    "NUL as a byte": (b'{"model":"sandbox","messages":[{"role":"user","content":"a\0b"}]}', ("valid JSON",)),
    "null": (b"null", ("Send a JSON object with the fields of one",)),
    "a list": (b"[]", ("Send a JSON object with the fields of one",)),
    "a text": (b'"hi"', ("Send a JSON object with the fields of one",)),
    "no model": (b"{" + HI + b"}", ("`model` is missing", "Add it")),
    "no messages": (b'{"model":"sandbox"}', ("`messages` is missing", "Add it")),
    "an empty list of messages": (b'{"model":"sandbox","messages":[]}', ("`messages`", "length >= 1", "Correct it")),
    "a number for the model": (b'{"model":4,' + HI + b"}", ("`model`", "`str`", "Correct it")),
    "an empty model": (b'{"model":"",' + HI + b"}", ("`model`", "length >= 1", "Correct it")),
    "a model without end": (b'{"model":"%b",' % (b"m" * 201) + HI + b"}", ("`model`", "length <= 200", "Correct it")),
    "a text for messages": (b'{"model":"sandbox","messages":"hi"}', ("`messages`", "`array`", "Correct it")),
    "a number for content": (
        b'{"model":"sandbox","messages":[{"role":"user","content":5}]}',
        ("`messages[0].content`", "Correct it"),
    ),
    "texts for parts": (
        b'{"model":"sandbox","messages":[{"role":"user","content":["hi"]}]}',
        ("`messages[0].content[0]`", "`object`", "Correct it"),
    ),
    "an unknown role": (b'{"model":"sandbox","messages":[{"role":"boss","content":"hi"}]}', ("boss", "Correct it")),
    "a message without role": (b'{"model":"sandbox","messages":[{"content":"hi"}]}', ("role` is missing", "Add it")),
    "an unknown field": (START + b',"temprature":1}', ("`temprature`", "Take it out, or check its spelling")),
    "an unknown field of a message": (
        b'{"model":"sandbox","messages":[{"role":"user","content":"hi","colour":1}]}',
        ("`messages[0].colour`", "Take it out, or check its spelling"),
    ),
    "an unknown option": (START + b',"stream_options":{"usage":true}}', ("`stream_options.usage`", "Take it out")),
    "a text for stream": (START + b',"stream":"yes"}', ("`stream`", "`bool", "Correct it")),
    "a text for temperature": (START + b',"temperature":"hot"}', ("`temperature`", "Correct it")),
    "no answers": (START + b',"n":0}', ("`n`", ">= 1", "Correct it")),
    "too many answers": (START + b',"n":17}', ("`n`", "<= 16", "Correct it")),
    "sound": (START + b',"audio":{"voice":"alloy"}}', ("`audio`", "no price", "Leave it out")),
    "another kind of answer": (START + b',"modalities":["audio"]}', ("text answers", "Leave `modalities` out")),
    "a dearer service": (START + b',"service_tier":"priority"}', ("`service_tier`", "Leave it out")),
} | {
    f"{field} {value.decode()[:12]}": (START + b',"%b":%b}' % (field.encode(), value), (f"`{field}`", "Correct it"))
    for field in ("max_tokens", "max_completion_tokens")
    for value in (b"0", b"-1", b"1.5", b"true", b'"7"', b"1000001", b"1e3", b"9" * 30, b"9" * 5000, b"[1]", b"{}")
}  # fmt: skip
