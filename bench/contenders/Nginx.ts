/**
 * nginx as a fan-out proxy. `mirror` copies each request to all backends but the first, whose answer is the reply.
 * nginx has no signature to check and no log to write.
 */

export const nginxConfig = (directory: string, port: number, backends: ReadonlyArray<string>): string => {
  const upstreams = backends.map((url, i) => `
  upstream backend${i} {
    server ${new URL(url).host};
    keepalive 64;
    keepalive_requests 1000000;
  }`)
  const pass = (i: number) => `proxy_pass ${new URL(backends[i]!).protocol}//backend${i}`
  const mirrors = backends.slice(1).map((_, i) => `
    location = /mirror${i + 1} {
      internal;
      ${pass(i + 1)}$request_uri;
    }`)
  // With `master_process off` the process that serves is the one that was started.
  return `
daemon off;
master_process off;
worker_processes 1;
pid ${directory}/nginx-${port}.pid;
events {
  worker_connections 4096;
}
http {
  access_log off;
  client_max_body_size 25m;
  client_body_buffer_size 2m;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;
  keepalive_timeout 120s;
  keepalive_requests 1000000;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Via "1.1 nginx";
  proxy_ssl_session_reuse on;${upstreams.join("")}
  server {
    listen 127.0.0.1:${port};
    location / {
      ${mirrors.map((_, i) => `mirror /mirror${i + 1};`).join("\n      ")}
      ${pass(0)};
    }${mirrors.join("")}
  }
}
`
}
