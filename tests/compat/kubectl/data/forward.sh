# forward.sh POD PORT: one connection through kubectl port-forward; prints the first line that comes back.
rm -f forward.fifo
mkfifo forward.fifo
kubectl port-forward "pod/$1" ":$2" >forward.fifo 2>forward.err &
forwarder=$!
exec 4<forward.fifo
read -r line <&4
port=$(echo "$line" | sed 's/.*127.0.0.1:\([0-9]*\) ->.*/\1/')
bash -c "exec 3<>/dev/tcp/127.0.0.1/$port; echo hello >&3; head -n 1 <&3"
kill $forwarder
wait $forwarder 2>/dev/null
exec 4<&-
rm -f forward.fifo
