<?xml version='1.0' encoding='UTF-8'?>
<tileset version="1.8" tiledversion="1.8.2" name="npcworld" tilewidth="32" tileheight="32" tilecount="160" columns="16">
 <image source="npcworld.png" width="512" height="320" />
 <tile id="1">
  <properties>
   <property name="solid" type="bool" value="true" />
  </properties>
 </tile>
 <tile id="2">
  <properties>
   <property name="solid" type="bool" value="true" />
  </properties>
 </tile>
 <tile id="16">
  <properties>
   <property name="district" type="int" value="1" />
  </properties>
 </tile>
 <tile id="17">
  <properties>
   <property name="district" type="int" value="2" />
  </properties>
 </tile>
 <tile id="18">
  <properties>
   <property name="district" type="int" value="3" />
  </properties>
 </tile>
 <tile id="19">
  <properties>
   <property name="district" type="int" value="4" />
  </properties>
 </tile>
 <tile id="20">
  <properties>
   <property name="district" type="int" value="5" />
  </properties>
 </tile>
 <tile id="21">
  <properties>
   <property name="district" type="int" value="6" />
  </properties>
 </tile>
 <tile id="22">
  <properties>
   <property name="district" type="int" value="7" />
  </properties>
 </tile>
 <tile id="23">
  <properties>
   <property name="district" type="int" value="8" />
  </properties>
 </tile>
 <tile id="24">
  <properties>
   <property name="district" type="int" value="9" />
  </properties>
 </tile>
 <tile id="25">
  <properties>
   <property name="district" type="int" value="10" />
  </properties>
 </tile>
 <tile id="26">
  <properties>
   <property name="district" type="int" value="11" />
  </properties>
 </tile>
 <tile id="27">
  <properties>
   <property name="district" type="int" value="12" />
  </properties>
 </tile>
 <tile id="28">
  <properties>
   <property name="district" type="int" value="13" />
  </properties>
 </tile>
 <tile id="29">
  <properties>
   <property name="district" type="int" value="14" />
  </properties>
 </tile>
 <tile id="30">
  <properties>
   <property name="district" type="int" value="15" />
  </properties>
 </tile>
 <tile id="31">
  <properties>
   <property name="district" type="int" value="16" />
  </properties>
 </tile>
 <tile id="32" type="exhibit">
  <properties>
   <property name="theme" value="nature" />
  </properties>
 </tile>
 <tile id="33" type="exhibit">
  <properties>
   <property name="theme" value="game" />
  </properties>
 </tile>
 <tile id="34" type="exhibit">
  <properties>
   <property name="theme" value="history" />
  </properties>
 </tile>
 <tile id="35" type="exhibit">
  <properties>
   <property name="theme" value="music" />
  </properties>
 </tile>
 <tile id="36" type="exhibit">
  <properties>
   <property name="theme" value="romance" />
  </properties>
 </tile>
 <tile id="37" type="exhibit">
  <properties>
   <property name="theme" value="family" />
  </properties>
 </tile>
 <tile id="38" type="exhibit">
  <properties>
   <property name="theme" value="mystery" />
  </properties>
 </tile>
 <tile id="39" type="exhibit">
  <properties>
   <property name="theme" value="future" />
  </properties>
 </tile>
 <tile id="40" type="exhibit">
  <properties>
   <property name="theme" value="humour" />
  </properties>
 </tile>
 <tile id="41" type="exhibit">
  <properties>
   <property name="theme" value="thrill" />
  </properties>
 </tile>
 <tile id="42" type="exhibit" />
 <tile id="43" type="spawn" />
 <tile id="44" type="exit" />
 <tile id="45" type="shop" />
 <tile id="46" type="meeting" />
 <tile id="47" type="portal" />
 <tile id="48">
  <properties>
   <property name="crowd" type="float" value="0.0" />
  </properties>
 </tile>
 <tile id="49">
  <properties>
   <property name="crowd" type="float" value="0.01" />
  </properties>
 </tile>
 <tile id="50">
  <properties>
   <property name="crowd" type="float" value="0.02" />
  </properties>
 </tile>
 <tile id="51">
  <properties>
   <property name="crowd" type="float" value="0.03" />
  </properties>
 </tile>
 <tile id="52">
  <properties>
   <property name="crowd" type="float" value="0.04" />
  </properties>
 </tile>
 <tile id="53">
  <properties>
   <property name="crowd" type="float" value="0.05" />
  </properties>
 </tile>
 <tile id="54">
  <properties>
   <property name="crowd" type="float" value="0.06" />
  </properties>
 </tile>
 <tile id="55">
  <properties>
   <property name="crowd" type="float" value="0.07" />
  </properties>
 </tile>
 <tile id="56">
  <properties>
   <property name="crowd" type="float" value="0.08" />
  </properties>
 </tile>
 <tile id="57">
  <properties>
   <property name="crowd" type="float" value="0.09" />
  </properties>
 </tile>
 <tile id="58">
  <properties>
   <property name="crowd" type="float" value="0.1" />
  </properties>
 </tile>
 <tile id="59">
  <properties>
   <property name="crowd" type="float" value="0.11" />
  </properties>
 </tile>
 <tile id="60">
  <properties>
   <property name="crowd" type="float" value="0.12" />
  </properties>
 </tile>
 <tile id="61">
  <properties>
   <property name="crowd" type="float" value="0.13" />
  </properties>
 </tile>
 <tile id="62">
  <properties>
   <property name="crowd" type="float" value="0.14" />
  </properties>
 </tile>
 <tile id="63">
  <properties>
   <property name="crowd" type="float" value="0.15" />
  </properties>
 </tile>
 <tile id="64">
  <properties>
   <property name="crowd" type="float" value="0.16" />
  </properties>
 </tile>
 <tile id="65">
  <properties>
   <property name="crowd" type="float" value="0.17" />
  </properties>
 </tile>
 <tile id="66">
  <properties>
   <property name="crowd" type="float" value="0.18" />
  </properties>
 </tile>
 <tile id="67">
  <properties>
   <property name="crowd" type="float" value="0.19" />
  </properties>
 </tile>
 <tile id="68">
  <properties>
   <property name="crowd" type="float" value="0.2" />
  </properties>
 </tile>
 <tile id="69">
  <properties>
   <property name="crowd" type="float" value="0.21" />
  </properties>
 </tile>
 <tile id="70">
  <properties>
   <property name="crowd" type="float" value="0.22" />
  </properties>
 </tile>
 <tile id="71">
  <properties>
   <property name="crowd" type="float" value="0.23" />
  </properties>
 </tile>
 <tile id="72">
  <properties>
   <property name="crowd" type="float" value="0.24" />
  </properties>
 </tile>
 <tile id="73">
  <properties>
   <property name="crowd" type="float" value="0.25" />
  </properties>
 </tile>
 <tile id="74">
  <properties>
   <property name="crowd" type="float" value="0.26" />
  </properties>
 </tile>
 <tile id="75">
  <properties>
   <property name="crowd" type="float" value="0.27" />
  </properties>
 </tile>
 <tile id="76">
  <properties>
   <property name="crowd" type="float" value="0.28" />
  </properties>
 </tile>
 <tile id="77">
  <properties>
   <property name="crowd" type="float" value="0.29" />
  </properties>
 </tile>
 <tile id="78">
  <properties>
   <property name="crowd" type="float" value="0.3" />
  </properties>
 </tile>
 <tile id="79">
  <properties>
   <property name="crowd" type="float" value="0.31" />
  </properties>
 </tile>
 <tile id="80">
  <properties>
   <property name="crowd" type="float" value="0.32" />
  </properties>
 </tile>
 <tile id="81">
  <properties>
   <property name="crowd" type="float" value="0.33" />
  </properties>
 </tile>
 <tile id="82">
  <properties>
   <property name="crowd" type="float" value="0.34" />
  </properties>
 </tile>
 <tile id="83">
  <properties>
   <property name="crowd" type="float" value="0.35" />
  </properties>
 </tile>
 <tile id="84">
  <properties>
   <property name="crowd" type="float" value="0.36" />
  </properties>
 </tile>
 <tile id="85">
  <properties>
   <property name="crowd" type="float" value="0.37" />
  </properties>
 </tile>
 <tile id="86">
  <properties>
   <property name="crowd" type="float" value="0.38" />
  </properties>
 </tile>
 <tile id="87">
  <properties>
   <property name="crowd" type="float" value="0.39" />
  </properties>
 </tile>
 <tile id="88">
  <properties>
   <property name="crowd" type="float" value="0.4" />
  </properties>
 </tile>
 <tile id="89">
  <properties>
   <property name="crowd" type="float" value="0.41" />
  </properties>
 </tile>
 <tile id="90">
  <properties>
   <property name="crowd" type="float" value="0.42" />
  </properties>
 </tile>
 <tile id="91">
  <properties>
   <property name="crowd" type="float" value="0.43" />
  </properties>
 </tile>
 <tile id="92">
  <properties>
   <property name="crowd" type="float" value="0.44" />
  </properties>
 </tile>
 <tile id="93">
  <properties>
   <property name="crowd" type="float" value="0.45" />
  </properties>
 </tile>
 <tile id="94">
  <properties>
   <property name="crowd" type="float" value="0.46" />
  </properties>
 </tile>
 <tile id="95">
  <properties>
   <property name="crowd" type="float" value="0.47" />
  </properties>
 </tile>
 <tile id="96">
  <properties>
   <property name="crowd" type="float" value="0.48" />
  </properties>
 </tile>
 <tile id="97">
  <properties>
   <property name="crowd" type="float" value="0.49" />
  </properties>
 </tile>
 <tile id="98">
  <properties>
   <property name="crowd" type="float" value="0.5" />
  </properties>
 </tile>
 <tile id="99">
  <properties>
   <property name="crowd" type="float" value="0.51" />
  </properties>
 </tile>
 <tile id="100">
  <properties>
   <property name="crowd" type="float" value="0.52" />
  </properties>
 </tile>
 <tile id="101">
  <properties>
   <property name="crowd" type="float" value="0.53" />
  </properties>
 </tile>
 <tile id="102">
  <properties>
   <property name="crowd" type="float" value="0.54" />
  </properties>
 </tile>
 <tile id="103">
  <properties>
   <property name="crowd" type="float" value="0.55" />
  </properties>
 </tile>
 <tile id="104">
  <properties>
   <property name="crowd" type="float" value="0.56" />
  </properties>
 </tile>
 <tile id="105">
  <properties>
   <property name="crowd" type="float" value="0.57" />
  </properties>
 </tile>
 <tile id="106">
  <properties>
   <property name="crowd" type="float" value="0.58" />
  </properties>
 </tile>
 <tile id="107">
  <properties>
   <property name="crowd" type="float" value="0.59" />
  </properties>
 </tile>
 <tile id="108">
  <properties>
   <property name="crowd" type="float" value="0.6" />
  </properties>
 </tile>
 <tile id="109">
  <properties>
   <property name="crowd" type="float" value="0.61" />
  </properties>
 </tile>
 <tile id="110">
  <properties>
   <property name="crowd" type="float" value="0.62" />
  </properties>
 </tile>
 <tile id="111">
  <properties>
   <property name="crowd" type="float" value="0.63" />
  </properties>
 </tile>
 <tile id="112">
  <properties>
   <property name="crowd" type="float" value="0.64" />
  </properties>
 </tile>
 <tile id="113">
  <properties>
   <property name="crowd" type="float" value="0.65" />
  </properties>
 </tile>
 <tile id="114">
  <properties>
   <property name="crowd" type="float" value="0.66" />
  </properties>
 </tile>
 <tile id="115">
  <properties>
   <property name="crowd" type="float" value="0.67" />
  </properties>
 </tile>
 <tile id="116">
  <properties>
   <property name="crowd" type="float" value="0.68" />
  </properties>
 </tile>
 <tile id="117">
  <properties>
   <property name="crowd" type="float" value="0.69" />
  </properties>
 </tile>
 <tile id="118">
  <properties>
   <property name="crowd" type="float" value="0.7" />
  </properties>
 </tile>
 <tile id="119">
  <properties>
   <property name="crowd" type="float" value="0.71" />
  </properties>
 </tile>
 <tile id="120">
  <properties>
   <property name="crowd" type="float" value="0.72" />
  </properties>
 </tile>
 <tile id="121">
  <properties>
   <property name="crowd" type="float" value="0.73" />
  </properties>
 </tile>
 <tile id="122">
  <properties>
   <property name="crowd" type="float" value="0.74" />
  </properties>
 </tile>
 <tile id="123">
  <properties>
   <property name="crowd" type="float" value="0.75" />
  </properties>
 </tile>
 <tile id="124">
  <properties>
   <property name="crowd" type="float" value="0.76" />
  </properties>
 </tile>
 <tile id="125">
  <properties>
   <property name="crowd" type="float" value="0.77" />
  </properties>
 </tile>
 <tile id="126">
  <properties>
   <property name="crowd" type="float" value="0.78" />
  </properties>
 </tile>
 <tile id="127">
  <properties>
   <property name="crowd" type="float" value="0.79" />
  </properties>
 </tile>
 <tile id="128">
  <properties>
   <property name="crowd" type="float" value="0.8" />
  </properties>
 </tile>
 <tile id="129">
  <properties>
   <property name="crowd" type="float" value="0.81" />
  </properties>
 </tile>
 <tile id="130">
  <properties>
   <property name="crowd" type="float" value="0.82" />
  </properties>
 </tile>
 <tile id="131">
  <properties>
   <property name="crowd" type="float" value="0.83" />
  </properties>
 </tile>
 <tile id="132">
  <properties>
   <property name="crowd" type="float" value="0.84" />
  </properties>
 </tile>
 <tile id="133">
  <properties>
   <property name="crowd" type="float" value="0.85" />
  </properties>
 </tile>
 <tile id="134">
  <properties>
   <property name="crowd" type="float" value="0.86" />
  </properties>
 </tile>
 <tile id="135">
  <properties>
   <property name="crowd" type="float" value="0.87" />
  </properties>
 </tile>
 <tile id="136">
  <properties>
   <property name="crowd" type="float" value="0.88" />
  </properties>
 </tile>
 <tile id="137">
  <properties>
   <property name="crowd" type="float" value="0.89" />
  </properties>
 </tile>
 <tile id="138">
  <properties>
   <property name="crowd" type="float" value="0.9" />
  </properties>
 </tile>
 <tile id="139">
  <properties>
   <property name="crowd" type="float" value="0.91" />
  </properties>
 </tile>
 <tile id="140">
  <properties>
   <property name="crowd" type="float" value="0.92" />
  </properties>
 </tile>
 <tile id="141">
  <properties>
   <property name="crowd" type="float" value="0.93" />
  </properties>
 </tile>
 <tile id="142">
  <properties>
   <property name="crowd" type="float" value="0.94" />
  </properties>
 </tile>
 <tile id="143">
  <properties>
   <property name="crowd" type="float" value="0.95" />
  </properties>
 </tile>
 <tile id="144">
  <properties>
   <property name="crowd" type="float" value="0.96" />
  </properties>
 </tile>
 <tile id="145">
  <properties>
   <property name="crowd" type="float" value="0.97" />
  </properties>
 </tile>
 <tile id="146">
  <properties>
   <property name="crowd" type="float" value="0.98" />
  </properties>
 </tile>
 <tile id="147">
  <properties>
   <property name="crowd" type="float" value="0.99" />
  </properties>
 </tile>
 <tile id="148">
  <properties>
   <property name="crowd" type="float" value="1.0" />
  </properties>
 </tile>
</tileset>
