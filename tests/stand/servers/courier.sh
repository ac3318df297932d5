# Courier: imapd and pop3d under couriertcpd, with one Maildir for each of USERS, which belongs to `mail`.
account courier 990
mkdir -p /run/courier/authdaemon
password=$(echo "$PASSWORD" | /usr/sbin/userdbpw -md5)
for user in $USERS; do
  mkdir -p "$DIR/mail/$user"
  [ -d "$DIR/mail/$user/Maildir" ] || /usr/bin/maildirmake.courier "$DIR/mail/$user/Maildir"
  printf '%s\tuid=8|gid=8|home=%s|systempw=%s\n' "$user" "$DIR/mail/$user" "$password" >>/etc/courier/userdb
done
chown -R mail:mail "$DIR/mail"
chmod 600 /etc/courier/userdb
/usr/sbin/makeuserdb
sed -i 's/^authmodulelist=.*/authmodulelist="authuserdb"/' /etc/courier/authdaemonrc
/usr/lib/courier/courier-authlib/authdaemond &
cat "$CERTIFICATES/server.pem" "$CERTIFICATES/server.key" >/etc/courier/both.pem
chmod 600 /etc/courier/both.pem
chown courier /etc/courier/both.pem
# The cache of TLS sessions is there.
chown courier /var/lib/courier

listen="/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=100 -maxperip=100 -nodnslookup -noidentlookup"
set -a
. /etc/courier/pop3d-ssl
. /etc/courier/pop3d
TLS_CERTFILE=/etc/courier/both.pem
POP3_STARTTLS=YES
$listen "$POP3" /usr/lib/courier/courier/courierpop3login /usr/lib/courier/courier/courierpop3d Maildir &
. /etc/courier/imapd-ssl
. /etc/courier/imapd
TLS_CERTFILE=/etc/courier/both.pem
IMAP_STARTTLS=YES
# Without the file alteration monitor of Debian's other packages, IDLE looks for mail this often. The default is 60.
IMAP_IDLE_TIMEOUT=2
exec $listen "$IMAP" /usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir
