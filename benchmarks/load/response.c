/* Reads an HTTP/1.1 response (RFC 9112), whichever way it is cut into pieces. */
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What a server must answer to the key that main.c sends (the example of RFC 6455, 1.3). */
static const char websocket_accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#define BODY_LIMIT ((uint64_t)1 << 40)  /* a size beyond this is nonsense, not a body */

void response_reset(struct response *response)
{
    memset(response, 0, offsetof(struct response, line));
}

/* The value, if `line` is the header `name`; else NULL. */
static const char *value_of(const char *line, const char *name)
{
    size_t length = strlen(name);
    if (strncasecmp(line, name, length) || line[length] != ':')
        return NULL;
    line += length + 1;
    return line + strspn(line, " \t");
}

/* Takes the value of the cookie we look for (RFC 6265, 5.2), if this is it. */
static void read_cookie(struct response *response, const char *pair)
{
    size_t name = strlen(response->cookie_name), length;
    if (strncmp(pair, response->cookie_name, name) || pair[name] != '=')
        return;
    pair += name + 1;
    length = strcspn(pair, "; \t");
    if (length >= sizeof response->cookie)
        return;
    memcpy(response->cookie, pair, length);
    response->cookie[length] = 0;
    response->given = true;
}

static void read_header(struct response *response)
{
    const char *value;
    if ((value = value_of(response->line, "content-length"))) {
        response->sized = true;
        response->left = strtoull(value, NULL, 10);
    } else if ((value = value_of(response->line, "transfer-encoding"))) {
        response->chunked = strcasestr(value, "chunked") != NULL;
    } else if ((value = value_of(response->line, "connection"))) {
        if (strcasestr(value, "close"))
            response->closes = true;
        else if (strcasestr(value, "keep-alive"))
            response->closes = false;
    } else if ((value = value_of(response->line, "sec-websocket-accept"))) {
        response->accepted = !strncmp(value, websocket_accept, strlen(websocket_accept));
    } else if (response->cookie_name && (value = value_of(response->line, "set-cookie"))) {
        read_cookie(response, value);
    }
}

/* The empty line has come: what follows it?  (RFC 9112, 6.3) */
static enum verdict head_ended(struct response *response)
{
    if (response->status == 101)
        return WHOLE;
    if (response->status < 200) {       /* 100 Continue: the real one follows */
        response_reset(response);
        response->began = true;
        return MORE;
    }
    if (response->status == 204 || response->status == 304)
        return WHOLE;
    if (response->chunked) {
        response->part = CHUNK_SIZE;
    } else if (response->sized) {
        response->part = SIZED_BODY;
        return response->left ? MORE : WHOLE;
    } else {
        response->part = BODY_TO_EOF;
        response->closes = true;
    }
    return MORE;
}

static enum verdict line_ended(struct response *response)
{
    char *line = response->line, *end;
    size_t length = response->line_length;
    if (length && line[length - 1] == '\r')
        length--;
    line[length] = 0;
    response->line_length = 0;
    switch (response->part) {
    case STATUS_LINE:
        if (length < 12 || strncmp(line, "HTTP/1.", 7) || line[8] != ' ')
            return MALFORMED_RESPONSE;
        response->status = atoi(line + 9);
        response->closes = line[7] == '0';
        response->part = HEADERS;
        return response->status >= 100 ? MORE : MALFORMED_RESPONSE;
    case HEADERS:
        if (!length)
            return head_ended(response);
        read_header(response);
        return response->left > BODY_LIMIT ? MALFORMED_RESPONSE : MORE;
    case CHUNK_SIZE:
        response->left = strtoull(line, &end, 16);
        response->part = response->left ? CHUNK_DATA : TRAILERS;
        return end == line || response->left > BODY_LIMIT ? MALFORMED_RESPONSE : MORE;
    case CHUNK_END:
        response->part = CHUNK_SIZE;
        return length ? MALFORMED_RESPONSE : MORE;
    case TRAILERS:
        return length ? MORE : WHOLE;
    default:
        return MALFORMED_RESPONSE;      /* a body has no lines: not reached */
    }
}

static void keep_body(struct response *response, const char *bytes, size_t length)
{
    size_t room = sizeof response->body - 1 - response->body_length;
    if (length > room)
        length = room;
    memcpy(response->body + response->body_length, bytes, length);
    response->body_length += length;
    response->body[response->body_length] = 0;
}

/* Takes a piece of the body; returns how many of the bytes belong to it. */
static size_t feed_body(struct response *response, const char *bytes, size_t length)
{
    if (response->part != BODY_TO_EOF) {
        if (length > response->left)
            length = (size_t)response->left;
        response->left -= length;
    }
    keep_body(response, bytes, length);
    return length;
}

/* Takes bytes up to the end of the response.  `used` tells how many: what follows a whole
 * response is the caller's business. */
enum verdict response_feed(struct response *response, const char *bytes, size_t length,
                           size_t *used)
{
    size_t at = 0;
    enum verdict verdict = MORE;
    response->began = response->began || length > 0;
    while (at < length && verdict == MORE) {
        if (response->part == SIZED_BODY || response->part == BODY_TO_EOF
            || response->part == CHUNK_DATA) {
            at += feed_body(response, bytes + at, length - at);
            if (response->part == SIZED_BODY && !response->left)
                verdict = WHOLE;
            if (response->part == CHUNK_DATA && !response->left)
                response->part = CHUNK_END;
            continue;
        }
        const char *newline = memchr(bytes + at, '\n', length - at);
        size_t piece = newline ? (size_t)(newline - bytes) - at : length - at;
        size_t room = sizeof response->line - 1 - response->line_length;
        size_t kept = piece < room ? piece : room;
        memcpy(response->line + response->line_length, bytes + at, kept);
        response->line_length += kept;
        at += piece;
        if (newline) {
            at++;
            verdict = line_ended(response);
        }
    }
    *used = at;
    return verdict;
}

/* The server has closed: is that an end of the response that HTTP knows? */
enum verdict response_eof(const struct response *response)
{
    return response->part == BODY_TO_EOF ? WHOLE : MALFORMED_RESPONSE;
}
