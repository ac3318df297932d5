# Cyrus: imapd, pop3d and lmtpd under master, with idled for IDLE. Debian's SASL library accepts every password with
# `alwaystrue`. ALTERNATE=no has the folders below INBOX, separated by dots.
account cyrus 990
mkdir -p "$DIR/config/socket" "$DIR/spool"
install -o cyrus -m 600 "$CERTIFICATES/server.key" /etc/cyrus.key
cat >/etc/imapd.conf <<END
configdirectory: $DIR/config
partition-default: $DIR/spool
defaultpartition: default
servername: localhost
allowplaintext: yes
sasl_mech_list: PLAIN LOGIN
sasl_pwcheck_method: alwaystrue
tls_server_cert: $CERTIFICATES/server.pem
tls_server_key: /etc/cyrus.key
altnamespace: $ALTERNATE
unixhierarchysep: $ALTERNATE
virtdomains: userid
autocreate_quota: 0
autocreate_post: yes
END
cat >/etc/cyrus.conf <<END
START {
  recover cmd="/usr/lib/cyrus/bin/ctl_cyrusdb -r"
}
SERVICES {
  imap cmd="/usr/lib/cyrus/bin/imapd" listen="127.0.0.1:$IMAP" prefork=1
  pop3 cmd="/usr/lib/cyrus/bin/pop3d" listen="127.0.0.1:$POP3" prefork=0
  lmtp cmd="/usr/lib/cyrus/bin/lmtpd -a" listen="127.0.0.1:$LMTP" prefork=0
}
DAEMON {
  idled cmd="/usr/lib/cyrus/bin/idled"
}
END
chown -R cyrus:cyrus "$DIR/config" "$DIR/spool"
exec /usr/lib/cyrus/bin/master -D -p /run/cyrus-master.pid
