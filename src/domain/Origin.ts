/** The host and the port to which an `http:` or `https:` URL leads. */

type Parts = Pick<URL, "hostname" | "port" | "protocol">

/** A host name, or an address without its brackets. */
export const hostOf = ({ hostname }: Pick<Parts, "hostname">): string => hostname.replace(/^\[(.*)\]$/, "$1")

/** The port, which is the scheme's default if none is written. */
export const portOf = ({ port, protocol }: Pick<Parts, "port" | "protocol">): number =>
  port === "" ? (protocol === "https:" ? 443 : 80) : Number(port)
