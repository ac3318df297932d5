# Exim: submission under STARTTLS with its own check of the password. All mail to outside.example is stored in one
# Maildir; nobody is called `gone` there.
account Debian-exim 990
mkdir -p "$DIR/mail" /var/spool/exim4 /var/log/exim4
chown mail:mail "$DIR/mail"
chown Debian-exim:Debian-exim /var/spool/exim4 /var/log/exim4
install -o Debian-exim -m 600 "$CERTIFICATES/server.key" /etc/exim4/server.key
cp "$CERTIFICATES/server.pem" /etc/exim4/server.pem
cat >/etc/exim4/exim4.conf <<END
primary_hostname = localhost
domainlist stored = outside.example
local_interfaces = <; [127.0.0.1]:$SUBMISSION
log_file_path = /var/log/exim4/%slog
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = *
tls_certificate = /etc/exim4/server.pem
tls_privatekey = /etc/exim4/server.key
auth_advertise_hosts = \${if eq{\$tls_in_cipher}{}{}{*}}
smtputf8_advertise_hosts = *
message_size_limit = $SIZE_LIMIT
acl_smtp_rcpt = recipients
acl_smtp_data = accept

begin acl
recipients:
  deny message = Unknown user
    local_parts = gone
  accept authenticated = *
    domains = +stored
  deny message = Relay access denied

begin routers
stored:
  driver = accept
  domains = +stored
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = $DIR/mail
  maildir_format
  user = mail
  group = mail
  envelope_to_add
  return_path_add

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = \${if eq{\$auth3}{$PASSWORD}}
  server_set_id = \$auth2
END
exec /usr/sbin/exim4 -bdf
