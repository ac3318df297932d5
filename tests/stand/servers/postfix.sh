# Postfix: submission under STARTTLS, signed in by Dovecot's SASL at $SASL. All mail to outside.example is stored in one
# Maildir; nobody is called `gone` there.
account postfix 990
account postdrop 991
mkdir -p "$DIR/mail"
chown mail:mail "$DIR/mail"
cp /usr/share/postfix/main.cf.debian /etc/postfix/main.cf
cp /usr/share/postfix/dynamicmaps.cf /etc/postfix/
cp "$CERTIFICATES/server.key" "$CERTIFICATES/server.pem" /etc/postfix/
cat >>/etc/postfix/main.cf <<END
maillog_file = /dev/stdout
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = localhost
mydestination =
mynetworks =
alias_maps =
virtual_mailbox_domains = outside.example
virtual_mailbox_base = $DIR/mail
virtual_mailbox_maps = regexp:/etc/postfix/boxes
virtual_minimum_uid = 1
virtual_uid_maps = static:8
virtual_gid_maps = static:8
smtpd_tls_cert_file = /etc/postfix/server.pem
smtpd_tls_key_file = /etc/postfix/server.key
smtpd_tls_security_level = encrypt
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = $SASL
smtpd_relay_restrictions = permit_sasl_authenticated, reject
message_size_limit = $SIZE_LIMIT
END
cat >/etc/postfix/boxes <<END
if !/^gone@/
/@/ ./
endif
END
# Debian's services, without their chroot, and with our port for submission only.
sed -e '/^smtp  *inet/d' -e 's/^\([a-z]*  *[a-z-]*  *[n-]  *-  *\)y /\1n /' /usr/share/postfix/master.cf.dist >/etc/postfix/master.cf
echo "127.0.0.1:$SUBMISSION inet n - n - - smtpd" >>/etc/postfix/master.cf
chown postfix /var/lib/postfix
exec /usr/sbin/postfix start-fg
