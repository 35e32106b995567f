/** Where an `http:` or `https:` URL leads. */

type Parts = Pick<URL, "hostname" | "port" | "protocol">

/** A name, or an address without brackets. */
export const hostOf = ({ hostname }: Pick<Parts, "hostname">): string => hostname.replace(/^\[(.*)\]$/, "$1")

/** The scheme's own where none is written. */
export const portOf = ({ port, protocol }: Pick<Parts, "port" | "protocol">): number =>
  port === "" ? (protocol === "https:" ? 443 : 80) : Number(port)
