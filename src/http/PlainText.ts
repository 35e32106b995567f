import * as HttpServerResponse from "effect/http/HttpServerResponse"

/** An answer in words, with the `Content-Type` of the original sprayproxy's answers. */
export const plainText = (
  status: number,
  text: string,
  headers?: Readonly<Record<string, string>>
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(text, { status, headers, contentType: "text/plain; charset=utf-8" })
