package android.net

class Network

class Uri

/** Always online: the cloud is a server on this machine. */
class ConnectivityManager {
    val activeNetwork: Network? = Network()

    fun getNetworkCapabilities(network: Network?): NetworkCapabilities? = network?.let { NetworkCapabilities() }
}

class NetworkCapabilities {
    fun hasCapability(capability: Int) = capability == NET_CAPABILITY_VALIDATED

    companion object {
        const val NET_CAPABILITY_VALIDATED = 16
    }
}
