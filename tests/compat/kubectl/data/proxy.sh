# proxy.sh COMMAND..: runs a kubectl without credentials through kubectl proxy.
rm -f proxy.fifo
mkfifo proxy.fifo
kubectl proxy --port=0 >proxy.fifo 2>proxy.err &
proxy=$!
exec 4<proxy.fifo
read -r line <&4
KUBECONFIG=/dev/null kubectl --server="http://${line##* }" "$@"
kill $proxy
wait $proxy 2>/dev/null
exec 4<&-
rm -f proxy.fifo
