"""What can go wrong, what the client then sees and what is kept: the rows of docs/faults.md.

A test shows a row by its mark, `@pytest.mark.fault("A1")`. `python scripts/update_faults.py` writes the page.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """One thing that goes wrong. Each sentence is a claim that the row's tests show."""

    fault: str
    client: str
    kept: str
    differs: str = ""
    """What others might expect here instead, and why Weir decides otherwise."""


LETTERS = {
    "A": "The upstream fails, stalls or lies",
    "B": "The client leaves, stalls or floods",
    "C": "What is not quite HTTP",
    "D": "Bodies",
    "E": "Redis and limits",
    "F": "The ledger, the process and what it runs on",
    "G": "Secrets and abuse",
}

INVARIANTS = {
    "I1": "Every request ends once: one line in the log and one row in the ledger, with one `end_reason`.",
    "I2": "Every request is settled once: within a second nothing is in flight, no lease is held, and"
    " limits have charged to the nanodollar what the ledger says.",
    "I3": "No key and no word of a prompt or an answer is in the log.",
    "I4": "Bytes are passed on as they came, in both directions. This the tests compare themselves.",
    "I5": "Memory is what it was before.",
    "I6": "No socket is left of any request. Those that are refused open none to the upstream.",
    "I7": "The event loop was not late again and again; Weir itself looks at that, and says so.",
    "I8": "`/healthz` of the management port answers at once.",
}
"""What holds after each test that runs the process, whatever went wrong in it."""

ROWS = {
    # -- the upstream fails, stalls or lies
    "A1": Row(
        "Nothing listens at the upstream's address.",
        "502 `upstream_connect_failed` within a second, with `retry-after: 1`.",
        "The ledger has its row, without tokens and without cost; what was reserved is given back.",
    ),
    "A2": Row(
        "Its name has no address, or its address does not answer.",
        "502 `upstream_dns_failed`; 504 `upstream_connect_timeout` after `timeouts.connect`.",
        "As A1.",
    ),
    "A3": Row(
        "The TLS handshake fails, or the certificate is for another name or of an unknown authority.",
        "502 `upstream_tls_failed`, with nothing of the certificate in it.",
        "The request is not sent, and never tried without verification.",
    ),
    "A4": Row(
        "It takes the request and resets the connection.",
        "502 `upstream_reset`.",
        "The request is not sent again: it may have been carried out.",
    ),
    "A5": Row(
        "It takes the request and closes the connection.",
        "502 `upstream_closed`.",
        "As A4.",
    ),
    "A6": Row(
        "It closes a kept connection just as it is used again.",
        "Nothing: the request goes out once more, on a new connection.",
        "One line in the log, with `resent`. What was streamed up, and what has one byte of an answer, is"
        " not sent again.",
    ),
    "A7": Row(
        "It does not answer.",
        "504 `upstream_header_timeout` after `timeouts.first_byte`, however its head drips.",
        "The upstream's connection is closed; what was reserved is given back.",
    ),
    "A8": Row(
        "It hangs in the middle of a JSON answer.",
        "The answer is cut off after `timeouts.idle` and does not look whole. One that is held, to tell its"
        " cost, is a 504 `upstream_idle_timeout`.",
        "The connection is closed; the most that it may have cost is charged.",
    ),
    "A9": Row(
        "It hangs in the middle of a stream.",
        "An error event `upstream_idle_timeout` after `timeouts.idle`, then the connection is broken off.",
        "What was streamed is estimated and settled.",
    ),
    "A10": Row(
        "It closes the connection in the middle of a chunked stream.",
        "An error event `upstream_reset`, and no clean end. Within a half-sent event there is no room for"
        " one.",
        "What was streamed is estimated and settled.",
    ),
    "A11": Row(
        "It closes the connection before as many bytes have come as `Content-Length` says.",
        "The answer ends short, and the client can tell.",
        "`upstream_reset`.",
    ),
    "A12": Row(
        "A stream ends cleanly without `data: [DONE]`.",
        "It ends cleanly there too.",
        "`completed_no_done`.",
    ),
    "A13": Row(
        "It resets the connection in the middle of a stream.",
        "As A10.",
        "As A10.",
    ),
    "A14": Row(
        "The size of a chunk is no number.",
        "502 `upstream_bad_framing`; in a running stream an error event with it.",
        "The connection is closed and never used again.",
    ),
    "A15": Row(
        "It answers with something that is not HTTP.",
        "502 `upstream_bad_response`.",
        "The connection is closed and never used again.",
    ),
    "A16": Row(
        "It sends header fields without end.",
        "502 `upstream_headers_too_large`.",
        "Memory stays flat.",
    ),
    "A17": Row(
        "It sends 10,000 header fields.",
        "502 `upstream_headers_too_large`, above 200.",
        "The connection is closed.",
    ),
    "A18": Row(
        "A stream comes one byte at a time.",
        "Each byte as it comes. After `timeouts.total` an error event `max_duration`, however it drips.",
        "The upstream's connection is closed.",
    ),
    "A19": Row(
        "More bytes come than `Content-Length` says.",
        "As many as it says, and no more.",
        "What follows answers nobody: the connection is not used again.",
    ),
    "A20": Row(
        "Its answer has two lengths, or one that is no number.",
        "502 `upstream_bad_framing`.",
        "The connection is closed.",
    ),
    "A21": Row(
        "Its answer has a length and chunks.",
        "The chunks, without the length.",
        "The connection is not used again.",
    ),
    "A22": Row(
        "Its answer has a transfer coding other than `chunked`.",
        "502 `upstream_bad_framing`.",
        "The connection is closed.",
    ),
    "A23": Row(
        "Interim answers (100, 102, 103) come before the answer, or without end.",
        "The answer alone; 502 when they do not end, 504 when the answer is late.",
        "The connection of a good answer is kept.",
    ),
    "A24": Row(
        "It switches protocols unasked.",
        "502 `upstream_bad_response`.",
        "The connection is closed.",
    ),
    "A25": Row(
        "Its status is 99, 600 or 999.",
        "502 `upstream_bad_status`, or `upstream_bad_response` where it has not three digits.",
        "The connection is closed.",
    ),
    "A26": Row(
        "A 204, a 304 or the answer to HEAD comes with a body.",
        "The answer without it.",
        "What follows answers nobody.",
    ),
    "A27": Row(
        "Its header fields are folded, or end with a bare LF.",
        "The value on one line, or 502 `upstream_bad_response`; never as it came.",
        "",
    ),
    "A28": Row(
        "Its header fields have a NUL or a bare CR in them.",
        "502 `upstream_bad_response`: no header of its making reaches the client.",
        "The connection is closed.",
    ),
    "A29": Row(
        "Its answer has hop-by-hop headers, or names others in `Connection`.",
        "None of them, and all others.",
        "The connection is kept if its framing allows.",
    ),
    "A30": Row(
        "Its answer has the same header twice; it has its own `Date` and `Server`.",
        "All of them in their order, and none of Weir's in their place.",
        "",
    ),
    "A31": Row(
        "It answers before it has read the request.",
        "Its answer, while the upload still goes on; 502 `upstream_reset` where a reset has destroyed it.",
        "The request is not sent again.",
    ),
    "A32": Row(
        "It answers 401, 403, 429 or 500.",
        "Its answer, byte by byte, with its `retry-after`. Where a limit of Weir's applies, its"
        " `x-ratelimit-*` are called `x-upstream-ratelimit-*`.",
        "The request counts, its tokens are given back.",
    ),
    "A33": Row(
        "It redirects.",
        "The redirect, which is not followed.",
        "No connection is made to where it points.",
    ),
    "A34": Row(
        "Its answer is compressed.",
        "The compressed bytes.",
        "Usage is read from a decompressed copy.",
    ),
    "A35": Row(
        "100 KB of an answer decompress to 100 MB.",
        "The 100 KB.",
        "Accounting stops at its bound and assumes the most that the request may use; memory stays flat.",
    ),
    "A36": Row(
        "Its answer has trailers.",
        "The answer without them.",
        "They never become headers.",
    ),
    "A37": Row(
        "It cannot be reached for a while, under load.",
        "After five failures in a row 503 `upstream_unavailable` at once, with `retry-after`.",
        "One request at a time tries whether it is back. When it is, all are served.",
        "Answers of the upstream never count, a 502 or 503 of its own neither: they pass as they came. One"
        " model that fails would otherwise cut off all others behind the same address.",
    ),
    "A38": Row(
        "One event of a stream has 20 MB.",
        "It passes piece by piece.",
        "Memory stays flat; the use is estimated.",
    ),
    "A39": Row(
        "A stream mixes line ends, has a byte order mark, comments, events of several lines, and is cut"
        " anywhere.",
        "Every byte as it came.",
        "The usage is found all the same.",
    ),
    "A40": Row(
        "A stream has no usage, though it was asked for.",
        "The stream as it is.",
        "The use is estimated, and the row says so.",
    ),
    # -- the client leaves, stalls or floods
    "B1": Row(
        "It leaves before its request is whole.",
        "Nothing.",
        "The upstream's request is broken off and never made whole; `client_closed_upload` in the log.",
        "An upload is passed on as it comes, so part of it may have gone out. A JSON body that a plugin"
        " reads is read whole first, and then nothing has.",
    ),
    "B2": Row(
        "It leaves before the answer begins.",
        "Nothing.",
        "The upstream's connection is closed within a second; `client_closed`. The most that the request"
        " may have cost is charged.",
    ),
    "B3": Row(
        "It leaves in the middle of a stream.",
        "Nothing.",
        "The upstream's connection is closed within a second; what was streamed is estimated and charged.",
    ),
    "B4": Row(
        "2,000 leave at random moments, with a pool of 50 connections.",
        "200 requests after them are all served.",
        "No connection and no place in the pool is lost.",
    ),
    "B5": Row(
        "It ends its side of the connection after its request.",
        "Nothing: it counts as having left.",
        "As B2 and B3.",
        "A client may by the letter of TCP still read. None of HTTP's clients does so, and a stream that"
        " nobody reads costs money.",
    ),
    "B6": Row(
        "It reads slowly what the upstream floods.",
        "Everything, at its own pace.",
        "The upstream is held up, and memory stays flat.",
    ),
    "B7": Row(
        "It stops reading for ever.",
        "The connection is cut after `limits_http.write_idle`.",
        "`client_stalled`; the upstream's connection is closed.",
    ),
    "B8": Row(
        "Hundreds send their heads a byte at a time.",
        "408 `request_timeout` after `limits_http.header_time`. Others are served as ever.",
        "No connection to the upstream is opened.",
    ),
    "B9": Row(
        "It stops in the middle of a body.",
        "408 `request_timeout` after `limits_http.body_idle`.",
        "The upstream's request is broken off.",
    ),
    "B10": Row(
        "It connects and says nothing.",
        "The connection is closed after `limits_http.header_time`.",
        "No line in the log.",
    ),
    "B11": Row(
        "Its JSON body is larger than `limits_http.json_body` by its `Content-Length`.",
        "413 `request_too_large` before the body is read, with `x-should-retry: false` and `connection:"
        " close`.",
        "No connection to the upstream is opened.",
        "Only bodies that a plugin reads are bounded. Files and recordings are passed on as they come, and"
        " take no memory.",
    ),
    "B12": Row(
        "The same, in chunks.",
        "413 `request_too_large`, as soon as the bound is passed.",
        "Memory stays flat.",
    ),
    "B13": Row(
        "Its body is longer or shorter than `Content-Length` says.",
        "What is over is read strictly as the next request; what is missing is waited for as in B9.",
        "No request is ever made of the two.",
    ),
    "B14": Row(
        "It sends `Expect: 100-continue`, or expects something else.",
        "100 once it is let in, and not before; 417 `expectation_failed` for anything else.",
        "Who is refused sends no body and opens no connection.",
    ),
    "B15": Row(
        "It sends five requests at once.",
        "Five answers, in order.",
        "Each has its own end in the log.",
    ),
    "B16": Row(
        "It speaks HTTP/1.0, or asks to close.",
        "It is served without chunks, and closed.",
        "The upstream's connection is kept.",
    ),
    "B17": Row(
        "10,000 connect to a process that may have 1,024 descriptors.",
        "Those that find a place are served. The others get a 503 `too_many_connections` at once, and in a"
        " flood most are closed without it.",
        "Nearly half of the descriptors are for clients, so that it reaches its upstream, and `/healthz`"
        " answers. The log has one line.",
    ),
    "B18": Row(
        "1,000 requests come over one connection, and 1,000 over their own.",
        "All are served.",
        "Neither memory nor descriptors grow.",
    ),
    "B19": Row(
        "It leaves while an error is sent to it.",
        "Nothing.",
        "No error in the log.",
    ),
    "B20": Row(
        "It asks for a WebSocket or h2c.",
        "501 `upgrade_not_supported`. What it only offers is ignored.",
        "Nothing that follows is smuggled through.",
    ),
    # -- what is not quite HTTP
    "C1": Row(
        "A request with a length and chunks.",
        "400, and the connection is closed.",
        "The upstream hears nothing.",
    ),
    "C2": Row(
        "Two lengths, equal or not; a length that is signed, hexadecimal, empty, or beyond 64 bits.",
        "400.",
        "The upstream hears nothing.",
    ),
    "C3": Row(
        "A transfer coding that is not exactly `chunked`, or two of them.",
        "400 or 501.",
        "The upstream hears nothing.",
    ),
    "C4": Row(
        "Chunks in HTTP/1.0.",
        "400.",
        "The upstream hears nothing.",
    ),
    "C5": Row(
        "Folded lines, blanks before the colon, control characters, NUL, bare CR, bare LF.",
        "400.",
        "The upstream hears nothing.",
    ),
    "C6": Row(
        "Chunks with sizes that are signed, hexadecimal by a prefix, too long or empty, or without their"
        " line ends.",
        "400.",
        "What had been sent upstream is broken off and never made whole.",
    ),
    "C7": Row(
        "Trailers that carry a length, a key or any other header.",
        "They are dropped or refused.",
        "They never become headers, and no key in them opens anything.",
    ),
    "C8": Row(
        "Hundreds of combinations of all these that are made to smuggle a second request.",
        "Good answers for what is whole, a refusal for the rest.",
        "The upstream never gets more requests than the log has.",
    ),
    "C10": Row(
        "No `Host`, two of them, or one that differs from the target's.",
        "400.",
        "The upstream hears nothing.",
    ),
    "C11": Row(
        "A target with a scheme and a host, an authority alone, `*`; CONNECT and TRACE.",
        "400 or 405; a target of the same host may be served as its path.",
        "No connection is ever made to a host that a client names.",
    ),
    "C12": Row(
        "Paths with dot segments raw or encoded, `..;`, a leading `//`, backslashes, `%00`, bytes beyond"
        " ASCII.",
        "400 `invalid_path`.",
        "The upstream hears nothing.",
        "`%2F`, `;` and a `//` within a path pass as they came: SDKs send them, and what they mean is the"
        " upstream's to say.",
    ),
    "C13": Row(
        "An unknown path.",
        "The upstream's answer.",
        "It is refused, counted and kept like any other.",
        "Weir forwards what it does not know, so that new endpoints work at once. A key still opens it, and"
        " limits on requests still count it.",
    ),
    "C14": Row(
        "Methods in small letters, of other protocols, or of nobody.",
        "405 or 400.",
        "The upstream hears nothing.",
    ),
    "C15": Row(
        "Line ends in what Weir puts into headers and logs: a request id, a user, a model.",
        "No header that Weir did not make.",
        "The log has them escaped.",
    ),
    "C16": Row(
        "`X_Api_Key` for `X-Api-Key`; two keys; two `Authorization`.",
        "401.",
        "Which of the two it is, is never guessed.",
        "Headers with underscores are passed on, since upstreams may want them. They are never taken for a"
        " key.",
    ),
    "C17": Row(
        "64 KiB of header fields, more than 100 of them, one of 1 MB, a target of 64 KiB.",
        "431 `headers_too_large` or 414 `uri_too_long`.",
        "Memory stays flat.",
    ),
    "C18": Row(
        "It claims another address, another request id, or headers of Weir's own.",
        "Weir's own id in `x-weir-request-id`.",
        "Its address is its own, unless it is a trusted proxy. `x-weir-*` goes neither in nor out.",
        "`x-forwarded-for` and `x-request-id` are passed on as they came, as they would be without Weir. It"
        " believes the first only from `trusted_proxies`, and writes the second down beside its own.",
    ),
    "C19": Row(
        "`Connection: authorization`.",
        "It is let in by its key.",
        "The upstream gets its own key.",
    ),
    "C20": Row(
        "HTTP/0.9, HTTP/1.2, the preface of HTTP/2.",
        "400, 405 or 505, and the connection is closed.",
        "The upstream hears nothing.",
    ),
    # -- bodies
    "D1": Row(
        "JSON that is nested 100,000 deep.",
        "400 `invalid_json` where a plugin reads it; else it is forwarded as it came.",
        "The upstream hears nothing of what is refused.",
    ),
    "D2": Row(
        "Numbers beyond 64 bits; 1e400; NaN and Infinity.",
        "400 `invalid_json` for 1e400, NaN and Infinity where a plugin reads it; all others are forwarded.",
        "The bytes are those that came.",
    ),
    "D3": Row(
        "A member that decides the price stands in it twice, plain, escaped or in capitals.",
        "400 `duplicate_key` where any plugin goes by it; else it is forwarded as it came.",
        "The upstream hears nothing of what is refused: it might have read the other one.",
    ),
    "D4": Row(
        "Invalid UTF-8, lone surrogates, UTF-16, a byte order mark.",
        "400 `invalid_json` where a plugin has to read it, and 415 for a `charset` that is not like ASCII.",
        "It is no way around a limit, nor around a price table that rejects unknown models.",
    ),
    "D5": Row(
        "An empty body, a list, null, a string, rubbish after the end.",
        "400 where a limit needs to know what is in it, never 500; else the upstream's judgement.",
        "",
        "An empty object, or one with nothing in it that makes sense, is for the upstream to judge.",
    ),
    "D6": Row(
        "Valid, invalid and doubtful JSON of every kind.",
        "Valid JSON is not refused; invalid is where it is read; nothing hangs or ends in a 5xx.",
        "What is forwarded is what came, to the byte.",
    ),
    "D7": Row(
        "Odd text as model, user, prompt or header: bidi marks, zero width, quotes, control characters.",
        "It is forwarded as it came; no 5xx.",
        "Labels of metrics stay bounded.",
    ),
    "D8": Row(
        "10 MB of a chat, in 80,000 messages.",
        "It is served.",
        "Others are served meanwhile.",
        "Parsing takes 5 ms a megabyte on the event loop, since the parser lets no other thread run; counting"
        " happens beside it.",
    ),
    "D9": Row(
        "1 MB of one letter, or of spaces.",
        "It is served.",
        "It is counted beside the event loop.",
    ),
    "D10": Row(
        "A prompt with the names of special tokens in it.",
        "It is served.",
        "They are counted as text.",
    ),
    "D11": Row(
        "A compressed request that decompresses to very much.",
        "415 `unsupported_encoding` where a plugin has to read it.",
        "It is never decompressed.",
    ),
    "D12": Row(
        "An upload of 100 MB.",
        "It is passed on as it comes.",
        "Memory stays flat.",
    ),
    "D13": Row(
        '`stream: "true"`, `max_tokens: -1`, `n: 1000000000`.',
        "The upstream's judgement, or 429 where a limit is too small for it.",
        "No estimate is negative, and no limit has more left than before.",
    ),
    "D14": Row(
        "Another content type than the endpoint wants.",
        "It is passed on where nobody has to read it. What is JSON is metered as such; all else is refused"
        " with 400.",
        "It is not forwarded around a limit on tokens or money.",
        "415 would refuse what upstreams take: many read JSON whatever it is declared to be.",
    ),
    # -- Redis and limits
    "E1": Row(
        "Redis is down when Weir starts.",
        "By each limit's `on_failure`: served within this process's share of the limit, served uncounted,"
        " or 503 `limiter_unavailable` with `retry-after`.",
        "The log and `weir_limiter_mode` say so; `/readyz` fails only where a limit refuses for want of"
        " Redis. What is counted meanwhile is told to Redis when it is there.",
    ),
    "E2": Row(
        "Redis dies under load.",
        "Requests wait for `timeout` (50 ms) at most, for three calls at most; then nobody waits.",
        "As E1. What ended meanwhile is settled when Redis is back; a process that stops before waits 3 s"
        " for it, and the log says how many settlements are lost.",
    ),
    "E3": Row(
        "Redis freezes, and goes on.",
        "As E2; within 2 s limits are shared again.",
        "What was asked and not answered is done once or undone.",
    ),
    "E4": Row(
        "Redis takes 200 ms to answer.",
        "As E2.",
        "As E3.",
    ),
    "E5": Row(
        "All of Redis is deleted.",
        "The next request is decided as if nothing had happened to budgets.",
        "Budgets are put back, as each process knew them last, before anything is decided; leases are"
        " renewed; rates begin anew.",
        "Budgets are not read from the ledger but put back by the processes that use them: it needs no"
        " second database on the path of a request, and it holds without a ledger. The price is that what"
        " nobody alive has heard of is forgotten: if all processes restart while Redis is empty, or what"
        " others spent between a process's last request and the loss, if those others never ask again.",
    ),
    "E6": Row(
        "Redis has forgotten the script.",
        "Nothing.",
        "It is sent once more, and counts stay.",
    ),
    "E7": Row(
        "Redis starts again, without its data.",
        "Nothing.",
        "The next call connects; then as E5.",
    ),
    "E8": Row(
        "The password is wrong or missing.",
        "As E1.",
        "The log and `/readyz`, which fails, say so without the password.",
    ),
    "E9": Row(
        "The primary has become a replica.",
        "As E2.",
        "The name, or Sentinel, is asked anew until it leads to one that takes writes; what a new primary"
        " had not heard of budgets is put back.",
    ),
    "E10": Row(
        "A slot of a cluster moves, or the node that serves it is away.",
        "Nothing, or as E2.",
        "All keys of one namespace are in one slot, so that one call is one step.",
    ),
    "E11": Row(
        "Redis has no memory left.",
        "As E2.",
        "Every key expires.",
    ),
    "E12": Row(
        "Two Weirs share one limit of 200, and 1,000 try.",
        "200 are served, exactly; 800 get 429.",
        "The upstream has had 200.",
    ),
    "E13": Row(
        "The last of five limits refuses.",
        "429.",
        "None of the others has counted it; nothing is sent.",
    ),
    "E14": Row(
        "A Weir, or one worker, is killed while it holds leases.",
        "Others are refused until its leases are over, no longer.",
        "All are free once their `lease` (30 s) is over; a stream that runs longer than that keeps its own.",
    ),
    "E15": Row(
        "A request is settled twice, or is told to Redis twice, or too late.",
        "Nothing.",
        "The second time does nothing.",
    ),
    "E16": Row(
        "The client leaves while Redis is asked.",
        "Nothing.",
        "What was taken for it is given back; nothing is sent.",
    ),
    "E17": Row(
        "The clocks of two Weirs are an hour off, one each way.",
        "Nothing: both say the same of every limit.",
        "Redis' clock counts; in memory rates go by a clock that never jumps.",
    ),
    "E18": Row(
        "The clock of Redis jumps back by 10 s.",
        "A wait that is no longer than usual, and never negative.",
        "Nothing is given away by the jump, there or back.",
    ),
    "E19": Row(
        "A reload lowers a limit.",
        "It holds for the next request.",
        "What was counted stays, in memory and in Redis, there and back again.",
    ),
    "E20": Row(
        "A budget is too large to be counted exactly (2^53 nanodollars).",
        "Nothing: it is never in use.",
        "Weir does not start with it, and keeps the old configuration at a reload; one line names the limit.",
    ),
    # -- the ledger, the process and what it runs on
    "F1": Row(
        "The process is killed while it writes.",
        "Its connection breaks.",
        "Every row of an answer that came whole is there, once; requests that had not ended are `crashed`,"
        " with bounds of their cost. The database is whole.",
    ),
    "F2": Row(
        "The machine loses power.",
        "Its connection breaks.",
        "What the kernel had not written yet is lost, some seconds of the journal at most; a record that is"
        " torn takes no other with it.",
        "One might write each row through to the disk before the answer ends. That costs every answer a"
        " wait for the disk, which may be stuck; what a killed process needs, the kernel has already.",
    ),
    "F3": Row(
        "The disk is full.",
        "It is served; 503 `ledger_unavailable` with `required`.",
        "Rows are kept in space that was taken ahead, then in memory; none is lost, and nothing is broken"
        " when there is room again.",
    ),
    "F4": Row(
        "The database is away for a while.",
        "Nothing.",
        "Rows are kept on disk and follow, once each, without a restart.",
    ),
    "F5": Row(
        "The journal on disk has reached its bound.",
        "It is served, or 503 `ledger_unavailable` with `required`.",
        "The journal takes no more of the disk; then memory has a bound too, and what is above it is"
        " counted as lost.",
    ),
    "F6": Row(
        "SIGTERM with 500 streams running, with one process and with two workers.",
        "All of them whole. New connections are refused once `drain.delay` is over.",
        "Readiness fails first. Every row is in the ledger and every cent and lease settled in Redis before"
        " the process ends, with 143.",
    ),
    "F7": Row(
        "SIGTERM, and streams that last longer than `drain.grace`.",
        "An error event `server_shutdown`, then the connection breaks.",
        "As F6; each is charged for what was estimated of what it got.",
    ),
    "F8": Row(
        "A second SIGTERM or SIGINT.",
        "Streams are cut off at once, as in F7.",
        "As F7, without waiting for `drain.grace`.",
    ),
    "F9": Row(
        "A worker is killed.",
        "Its streams break; everybody else's go on, and nobody fails to connect.",
        "It is replaced within moments; its leases are free when they are over.",
    ),
    "F10": Row(
        "A plugin blocks the event loop.",
        "Everybody waits.",
        "`/healthz` does not answer, so that whoever probes it starts the process again; a thread logs the"
        " stack, once. With several workers the others serve.",
    ),
    "F11": Row(
        "A plugin raises before, in or after the answer.",
        "500 `plugin_error`, or an error event in a stream; after the answer, nothing.",
        "Every plugin whose turn had come is told of the end, in reverse order; the log has type and place,"
        " not the message.",
    ),
    "F12": Row(
        "Memory comes near its limit, by size or by cgroup, with 500 streams running.",
        "503 `server_overloaded` for new requests; all 500 end whole.",
        "It is not killed, and takes requests again when there is room. A stream takes less than 256 KiB.",
        "Requests that are turned away have one line a second in the log between them, with how many they"
        " were, and no row in the ledger: an overload must not be made worse by telling of it.",
    ),
    "F13": Row(
        "A reload of a configuration, a key or prices with a mistake in it.",
        "Nothing.",
        "The old one stays; the log says what is wrong and where, and `weir_config_reload_failed` is 1. A"
        " worker that alone cannot follow is replaced by one that has what the others have.",
    ),
    "F14": Row(
        "A configuration, a key or prices are reloaded while streams run.",
        "They end as they began; the next request has the new one.",
        "By SIGHUP, or by a ConfigMap that is swapped.",
    ),
    "F15": Row(
        "A read-only root, another user, no capabilities, no /tmp.",
        "It is served.",
        "The folder for state is all that is written to.",
    ),
    "F16": Row(
        "The collector of traces is down, slow or refuses.",
        "Nothing.",
        "Spans that find no room are dropped, and the log says how many; a stop does not wait for them.",
    ),
    "F17": Row(
        "It runs for a long time under random faults.",
        "",
        "Memory, descriptors, leases and rows do not grow.",
    ),
    # -- secrets and abuse
    "G1": Row(
        "Somebody tries 10,000 keys.",
        "401 with one body for every wrong key, then 429 `too_many_invalid_keys`.",
        "Only digests of keys are kept.",
    ),
    "G2": Row(
        "Somebody measures how long a wrong key takes.",
        "The same time, whatever is right in it, within a tenth.",
        "A key is found by its hash.",
    ),
    "G3": Row(
        "A key in the query, a cookie, a body or the URL's userinfo.",
        "401: it counts for nothing there.",
        "It is not in the log, which has the path alone, and of that no word in the shape of a key.",
    ),
    "G4": Row(
        "A client that names another upstream: in headers, in the target, in the body.",
        "It is ignored.",
        "No connection is made there.",
    ),
    "G5": Row(
        "An upstream with a link-local address.",
        "",
        "Weir does not start without `allow_link_local`.",
        "Private addresses are what most upstreams of one's own have; only the link-local ones, where clouds"
        " keep their metadata, need to be asked for. A name is resolved, and trusted, when it is used.",
    ),
    "G6": Row(
        "A secret in every field there is.",
        "It is in no error.",
        "It is in no log, span, metric, row or core dump.",
    ),
    "G7": Row(
        "An exception that holds a request.", "500 without it.", "The log has its place, not its text."
    ),
    "G8": Row(
        "Line ends, terminal codes and a megabyte in a model's name.",
        "",
        "One request is one line, of printable text, and no value is longer than 256.",
    ),
    "G9": Row(
        "Thousands of models, keys and users that nobody knows.",
        "They are served.",
        "The labels of metrics stay as few as they were.",
    ),
    "G10": Row(
        "`/metrics` on the data port.",
        "The upstream's answer, with nothing of Weir's.",
        "Management is on its own port alone.",
    ),
    "G11": Row("A page of an unknown origin asks.", "No `access-control-*` for it.", ""),
    "G12": Row(
        "A redirect, a reload with a stream still running, a second try.",
        "The redirect as it came: Weir follows none.",
        "An upstream's key goes to that upstream and nowhere else.",
    ),
}
